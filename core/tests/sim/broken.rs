//! What raw peers say: opening handshakes and frames, broken in one of many ways, or not.
//!
//! Does not know: when it is said.

use wsabi::{Config, ErrorKind, Role};

use crate::chance::Chance;
use crate::hostile::Expected;
use crate::model::{Frame, encode};
use crate::protocol::handshake::key::accept_value;

pub(crate) fn request(chance: &mut Chance, config: &Config, deflates: bool) -> (Vec<u8>, Expected) {
    let mut lines: Vec<String> = [
        "GET /raw HTTP/1.1",
        "Host: example.com",
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ]
    .map(str::to_owned)
    .to_vec();
    if deflates {
        let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits";
        lines.push(offer.to_owned());
    }
    let mut push = |line: &str| lines.push(line.to_owned());
    let status = match chance.below(32) {
        0 => replace(&mut lines, 0, "POST /raw HTTP/1.1", 405),
        1 => replace(&mut lines, 0, "GET /raw HTTP/1.0", 400),
        2 => replace(&mut lines, 0, "GET raw HTTP/1.1", 400),
        3 => replace(&mut lines, 1, "X-Host: none", 400),
        4 => replace(&mut lines, 1, "Host: exa mple", 400),
        5 => replace(&mut lines, 2, "Upgrade: h2c", 400),
        6 => replace(&mut lines, 3, "Connection: close", 400),
        7 => replace(&mut lines, 4, "Sec-WebSocket-Key: short", 400),
        8 => replace(&mut lines, 5, "Sec-WebSocket-Version: 8", 426),
        9 => {
            push("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==");
            400
        }
        10 => {
            push("Content-Length: 5");
            413
        }
        11 => {
            push("Transfer-Encoding: chunked");
            400
        }
        12 => {
            push("Origin: https://elsewhere.example");
            403
        }
        13 => {
            push("Sec-WebSocket-Protocol: a, b, a");
            400
        }
        14 => {
            for number in 0..config.max_handshake_headers {
                push(&format!("X-{number}: y"));
            }
            431
        }
        15 => {
            push(&format!(
                "X-Long: {}",
                "y".repeat(config.max_handshake_bytes as usize)
            ));
            431
        }
        16 => {
            lines.truncate(2);
            426
        }
        17 => {
            return (
                b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
                Expected::Status(400),
            );
        }
        18 => {
            let text = lines.join("\n") + "\n\n";
            return (text.into_bytes(), Expected::Status(400));
        }
        19 => {
            let text = lines.join("\r\n");
            let cut = chance.between(1, text.len() as u64) as usize;
            return (text.as_bytes()[..cut].to_vec(), Expected::Status(408));
        }
        20 => {
            push("X-Bad: a\0b");
            400
        }
        _ => 0,
    };
    let expected = if status == 0 {
        Expected::Open
    } else {
        Expected::Status(status)
    };
    ((lines.join("\r\n") + "\r\n\r\n").into_bytes(), expected)
}

fn replace(lines: &mut [String], at: usize, line: &str, status: u16) -> u16 {
    lines[at] = line.to_owned();
    status
}

pub(crate) fn response(
    chance: &mut Chance,
    config: &Config,
    request: &[u8],
) -> (Vec<u8>, Expected) {
    let text = String::from_utf8_lossy(request);
    let key = text
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
    let accept = accept_value(key.unwrap_or_default().as_bytes());
    let accept = String::from_utf8_lossy(&accept);
    let mut lines: Vec<String> = vec![
        "HTTP/1.1 101 Switching Protocols".to_owned(),
        "Upgrade: websocket".to_owned(),
        "Connection: Upgrade".to_owned(),
        format!("Sec-WebSocket-Accept: {accept}"),
    ];
    let bad = Expected::Kind(ErrorKind::Handshake);
    let large = Expected::Kind(ErrorKind::HandshakeTooLarge);
    let refused = Expected::Kind(ErrorKind::Refused);
    let mut change = |at: usize, line: &str, expected: Expected| {
        lines[at] = line.to_owned();
        expected
    };
    let expected = match chance.below(24) {
        0 => change(0, "HTTP/1.1 404 Not Found", refused),
        1 => change(0, "HTTP/1.1 200 OK", refused),
        2 => change(0, "HTTP/1.0 101 Switching Protocols", bad),
        3 => change(0, "HTTP/1.1 abc Switching", bad),
        4 => change(1, "Upgrade: h2c", bad),
        5 => change(2, "Connection: close", bad),
        6 => change(3, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", bad),
        7 => change(3, "X: y", bad),
        8 => {
            lines.push("Sec-WebSocket-Extensions: x-unknown".to_owned());
            bad
        }
        9 => {
            lines.push("Sec-WebSocket-Protocol: never-offered".to_owned());
            bad
        }
        10 => {
            for number in 0..config.max_handshake_headers {
                lines.push(format!("X-{number}: y"));
            }
            large
        }
        11 => {
            lines.push("Y".repeat(config.max_handshake_bytes as usize));
            large
        }
        12 => return (b"\x81\x05hello".to_vec(), bad),
        13 => return ((lines.join("\n") + "\n\n").into_bytes(), bad),
        14 => {
            let head = format!(
                "HTTP/1.1 100 Continue\r\n\r\n{}\r\n\r\n",
                lines.join("\r\n")
            );
            return (head.into_bytes(), Expected::Open);
        }
        _ => Expected::Open,
    };
    ((lines.join("\r\n") + "\r\n\r\n").into_bytes(), expected)
}

/// A message in one to four frames, or a control frame, within the limits.
pub(crate) fn valid(config: &Config, chance: &mut Chance) -> Vec<Frame> {
    let most = config.max_message_bytes.min(400);
    let is_text = chance.coin();
    let payload = |chance: &mut Chance, most: u64| {
        let len = chance.scale(most) as usize;
        let octet = if is_text { b'a' } else { chance.next() as u8 };
        vec![octet; len]
    };
    match chance.below(6) {
        0 => vec![Frame {
            first: 0x89,
            payload: payload(chance, 125),
        }],
        1 => vec![Frame {
            first: 0x8a,
            payload: payload(chance, 125),
        }],
        _ => {
            let continued = chance.scale(3).min(u64::from(config.max_fragments));
            let opcode = if is_text { 1 } else { 2 };
            (0..=continued)
                .map(|number| Frame {
                    first: if number == 0 { opcode } else { 0 }
                        | if number == continued { 0x80 } else { 0 },
                    payload: payload(chance, most / (continued + 1)),
                })
                .collect()
        }
    }
}

/// A compressed message that is whole, damaged, or much larger than it looks.
pub(crate) fn compressed(chance: &mut Chance) -> Vec<Frame> {
    let frame = |first: u8, payload: &[u8]| Frame {
        first,
        payload: payload.to_vec(),
    };
    // RFC 7692 §7.2.3.1.
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    match chance.below(8) {
        0 | 1 => vec![frame(0xc1, &hello)],
        2 => {
            let noise: Vec<u8> = (0..chance.between(1, 300))
                .map(|_| chance.next() as u8)
                .collect();
            vec![frame(0xc2, &noise)]
        }
        3 => vec![frame(0xc1, &hello[..chance.below(7) as usize])],
        4 => vec![frame(0x41, &hello[..3]), frame(0xc0, &hello[3..])],
        5 => vec![frame(*chance.pick(&[0xc8, 0xc9, 0xca]), b"")],
        6 => {
            // Distance 1, length 258, as often as it fits: a thousand times what it takes.
            let mut bomb = vec![0x62, 0x18, 0x05, 0xa3];
            bomb.resize(chance.between(100, 4000) as usize, 0);
            vec![frame(0xc2, &bomb)]
        }
        _ => {
            let mut empty_blocks = Vec::new();
            for _ in 0..chance.between(1, 500) {
                empty_blocks.extend_from_slice(&[0, 0, 0, 0xff, 0xff]);
            }
            vec![frame(0xc2, &empty_blocks)]
        }
    }
}

/// A frame, or a few, that break a rule or a limit.
pub(crate) fn broken(config: &Config, sender: Role, chance: &mut Chance) -> Vec<u8> {
    let right = |frames: &[Frame]| encode(frames, sender, std::iter::repeat([3, 1, 4, 1]));
    let wrong = |frames: &[Frame]| {
        let other = if sender == Role::Client {
            Role::Server
        } else {
            Role::Client
        };
        encode(frames, other, std::iter::repeat([3, 1, 4, 1]))
    };
    let frame = |first: u8, payload: &[u8]| Frame {
        first,
        payload: payload.to_vec(),
    };
    let mask = if sender == Role::Client { 0x80 } else { 0 };
    // A header by hand, with a key that masks nothing, and a little payload.
    let by_hand = |first: u8, short: u8, extended: &[u8]| {
        let mut bytes = vec![first, mask | short];
        bytes.extend_from_slice(extended);
        bytes.extend_from_slice(if mask != 0 { &[0; 4] } else { &[] });
        bytes.extend_from_slice(b"payload");
        bytes
    };
    match chance.below(19) {
        0 => wrong(&[frame(0x82, b"wrongly masked")]),
        1 => right(&[frame(
            0x82 | *chance.pick(&[0x40, 0x20, 0x10, 0x70]),
            b"reserved bits",
        )]),
        2 => right(&[frame(
            0x80 | *chance.pick(&[3, 4, 5, 6, 7, 11, 12, 13, 14, 15]),
            b"",
        )]),
        3 => right(&[frame(*chance.pick(&[0x08, 0x09, 0x0a]), b"")]),
        4 => right(&[frame(*chance.pick(&[0x88, 0x89, 0x8a]), &[b'x'; 126])]),
        5 => by_hand(0x82, 126, &[0, 125]),
        6 => by_hand(0x81, 127, &[0, 0, 0, 0, 0, 0, 0xff, 0xff]),
        7 => by_hand(0x82, 127, &[0x80, 0, 0, 0, 0, 0, 0, 0]),
        8 => right(&[frame(*chance.pick(&[0x80, 0x00]), b"continues nothing")]),
        9 => right(&[
            frame(0x01, b"begins"),
            frame(*chance.pick(&[0x81, 0x02]), b"begins again"),
        ]),
        10 => {
            let bad: [&[u8]; 5] = [
                b"\xff",
                b"abc\xc0\xaf",
                b"\xed\xa0\x80",
                b"\xf4\x90\x80\x80",
                b"\xe2\x82",
            ];
            right(&[frame(0x81, bad[chance.below(5) as usize])])
        }
        11 => {
            let code: u16 =
                *chance.pick(&[0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535]);
            right(&[frame(0x88, &code.to_be_bytes())])
        }
        12 => right(&[frame(0x88, &[3])]),
        13 => right(&[frame(0x88, b"\x03\xe8\xff\xfe")]),
        14 => {
            let most = config.max_message_bytes;
            let len = *chance.pick(&[most + 1, most + 70_000, 1 << 62]);
            by_hand(0x82, 127, &len.max(65_536).max(most + 1).to_be_bytes())
        }
        15 => {
            let mut frames = vec![frame(0x02, b"")];
            frames.resize(
                config.max_fragments.min(5000) as usize + 2,
                frame(0x00, b"x"),
            );
            right(&frames)
        }
        16 => (0..chance.between(1, 64))
            .map(|_| chance.next() as u8)
            .collect(),
        17 => right(&[frame(0x88, b"\x03\xe8bye"), frame(0x81, b"after the end")]),
        _ => right(&[
            frame(0x01, b"\xf0\x9f"),
            frame(0x89, b"in between"),
            frame(0x80, b"\x98"),
        ]),
    }
}
