//! RFC 1951 as directly as it can be written, a bit at a time, and what RFC 7692 §7.2.2 makes of it
//! for the payload of a message.
//!
//! As strict as zlib: sets of codes are complete (but for a single distance), and have an end of
//! block.
//!
//! Does not know: the library, or zlib.

/// What a payload decompresses to, and how that ends.
pub(crate) struct Inflated {
    pub(crate) data: Vec<u8>,
    /// Octets of the payload that had to come for each octet of `data`.
    pub(crate) needed: Vec<usize>,
    /// Whether all of the payload is a message.
    pub(crate) whole: bool,
    /// The largest distance that was referred back.
    pub(crate) reach: usize,
}

/// The octets that RFC 7692 §7.2.2 adds to a payload, and an empty last block.
const TAIL: [u8; 6] = [0, 0, 0xff, 0xff, 3, 0];

/// Lengths of the codes of literals and lengths, and of distances.
type Codes = (Code, Code);

/// Canonical Huffman codes (§3.2.2): for each length the first code, and the symbols in order.
struct Code {
    counts: [u16; 16],
    symbols: Vec<u16>,
}

impl Code {
    /// `None` for sets that are over-subscribed, or incomplete where that is not allowed.
    fn new(lengths: &[u8], may_be_single: bool) -> Option<Self> {
        let mut counts = [0u16; 16];
        for &length in lengths {
            counts[usize::from(length)] += 1;
        }
        counts[0] = 0;
        let mut left = 1i32;
        for count in &counts[1..] {
            left = left * 2 - i32::from(*count);
            if left < 0 {
                return None;
            }
        }
        let used: u16 = counts.iter().sum();
        let single = used == 0 || used == 1 && counts[1] == 1;
        if left > 0 && !(may_be_single && single) {
            return None;
        }
        let symbols = (1..16u8).flat_map(|length| {
            (0..lengths.len() as u16).filter(move |&symbol| lengths[usize::from(symbol)] == length)
        });
        Some(Self {
            counts,
            symbols: symbols.collect(),
        })
    }
}

/// Why there is nothing more.
enum Stop {
    /// The input is used up.
    End,
    Damaged,
}

struct Reader<'a> {
    input: &'a [u8],
    /// In bits.
    place: usize,
}

impl Reader<'_> {
    fn bit(&mut self) -> Result<u32, Stop> {
        let octet = self.input.get(self.place / 8).ok_or(Stop::End)?;
        let bit = octet >> (self.place % 8) & 1;
        self.place += 1;
        Ok(bit.into())
    }

    fn bits(&mut self, count: u32) -> Result<u32, Stop> {
        (0..count).try_fold(0, |value, i| Ok(value | self.bit()? << i))
    }

    fn symbol(&mut self, code: &Code) -> Result<usize, Stop> {
        let (mut value, mut first, mut index) = (0, 0, 0);
        for count in &code.counts[1..] {
            value |= self.bit()? as i32;
            let count = i32::from(*count);
            if value - first < count {
                return Ok(code.symbols[(index + value - first) as usize].into());
            }
            index += count;
            first = (first + count) << 1;
            value <<= 1;
        }
        Err(Stop::Damaged)
    }

    /// §3.2.7.
    fn dynamic(&mut self) -> Result<Codes, Stop> {
        let literals = self.bits(5)? as usize + 257;
        let distances = self.bits(5)? as usize + 1;
        let count = self.bits(4)? as usize + 4;
        if literals > 286 || distances > 30 {
            return Err(Stop::Damaged);
        }
        let order = [
            16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
        ];
        let mut lengths = [0u8; 19];
        for &place in &order[..count] {
            lengths[place] = self.bits(3)? as u8;
        }
        let code = Code::new(&lengths, false).ok_or(Stop::Damaged)?;
        let mut lengths: Vec<u8> = Vec::new();
        while lengths.len() < literals + distances {
            let (value, times) = match self.symbol(&code)? {
                symbol @ 0..=15 => (symbol as u8, 1),
                16 => {
                    let times = 3 + self.bits(2)?;
                    (*lengths.last().ok_or(Stop::Damaged)?, times)
                }
                17 => (0, 3 + self.bits(3)?),
                _ => (0, 11 + self.bits(7)?),
            };
            lengths.extend(std::iter::repeat_n(value, times as usize));
        }
        if lengths.len() > literals + distances || lengths[256] == 0 {
            return Err(Stop::Damaged);
        }
        let (literals, distances) = lengths.split_at(literals);
        let literals = Code::new(literals, true).ok_or(Stop::Damaged)?;
        Ok((literals, Code::new(distances, true).ok_or(Stop::Damaged)?))
    }
}

/// §3.2.6.
fn fixed() -> Codes {
    let lengths: Vec<u8> = [(144, 8), (112, 9), (24, 7), (8, 8)]
        .iter()
        .flat_map(|&(count, length)| std::iter::repeat_n(length, count))
        .collect();
    let codes = (Code::new(&lengths, false), Code::new(&[5; 32], false));
    (
        codes.0.expect("it is complete"),
        codes.1.expect("it is complete"),
    )
}

/// Decompresses a payload that may refer back to `window`. A second stream in it (RFC 7692 §7.2.3.4)
/// may refer back to the last `size` octets; output ends when it is longer than `most`.
pub(crate) fn inflate(payload: &[u8], window: &[u8], size: usize, most: usize) -> Inflated {
    let input = [payload, &TAIL].concat();
    let mut reader = Reader {
        input: &input,
        place: 0,
    };
    let mut out = Output {
        data: window.to_vec(),
        needed: vec![0; window.len()],
        begin: 0,
        most: window.len() + most,
        reach: 0,
    };
    let whole = loop {
        match stream(&mut reader, &mut out) {
            Err(_) => break false,
            Ok(()) => reader.place = reader.place.div_ceil(8) * 8,
        }
        let end = reader.place / 8;
        if end == payload.len() || end == input.len() {
            break true;
        }
        if end > payload.len() {
            break false;
        }
        out.begin = out.data.len().saturating_sub(size);
    };
    // What only the added octets bring about is no part of the message.
    let own = out.needed.iter().position(|&needed| needed > payload.len());
    let end = own.unwrap_or(out.data.len());
    Inflated {
        data: out.data[window.len()..end].to_vec(),
        needed: out.needed[window.len()..end].to_vec(),
        whole: whole && own.is_none(),
        reach: out.reach,
    }
}

struct Output {
    data: Vec<u8>,
    needed: Vec<usize>,
    /// What is before this cannot be referred to.
    begin: usize,
    most: usize,
    reach: usize,
}

impl Output {
    fn push(&mut self, octet: u8, place: usize) -> Result<(), Stop> {
        self.data.push(octet);
        self.needed.push(place.div_ceil(8));
        if self.data.len() > self.most {
            Err(Stop::End)
        } else {
            Ok(())
        }
    }
}

/// One stream, up to the end of its last block.
fn stream(reader: &mut Reader<'_>, out: &mut Output) -> Result<(), Stop> {
    loop {
        let last = reader.bit()? == 1;
        match reader.bits(2)? {
            0 => {
                reader.place = reader.place.div_ceil(8) * 8;
                let (length, inverse) = (reader.bits(16)?, reader.bits(16)?);
                if length != inverse ^ 0xffff {
                    return Err(Stop::Damaged);
                }
                for _ in 0..length {
                    let octet = reader.bits(8)? as u8;
                    out.push(octet, reader.place)?;
                }
            }
            1 => block(reader, &fixed(), out)?,
            2 => {
                let codes = reader.dynamic()?;
                block(reader, &codes, out)?;
            }
            _ => return Err(Stop::Damaged),
        }
        if last {
            return Ok(());
        }
    }
}

/// §3.2.3 and §3.2.5.
fn block(reader: &mut Reader<'_>, codes: &Codes, out: &mut Output) -> Result<(), Stop> {
    loop {
        let symbol = match reader.symbol(&codes.0)? {
            literal @ 0..=255 => {
                out.push(literal as u8, reader.place)?;
                continue;
            }
            256 => return Ok(()),
            symbol @ 257..=285 => symbol - 257,
            _ => return Err(Stop::Damaged),
        };
        let extra = if symbol < 8 || symbol == 28 {
            0
        } else {
            symbol / 4 - 1
        };
        let base = match symbol {
            28 => 258,
            0..8 => 3 + symbol,
            _ => 3 + ((4 + symbol % 4) << extra),
        };
        let length = base + reader.bits(extra as u32)? as usize;
        let symbol = reader.symbol(&codes.1)?;
        if symbol > 29 {
            return Err(Stop::Damaged);
        }
        let extra = if symbol < 2 { 0 } else { symbol / 2 - 1 };
        let base = if symbol < 2 {
            1 + symbol
        } else {
            1 + ((2 + symbol % 2) << extra)
        };
        let distance = base + reader.bits(extra as u32)? as usize;
        if distance > (out.data.len() - out.begin).min(1 << 15) {
            return Err(Stop::Damaged);
        }
        out.reach = out.reach.max(distance);
        for _ in 0..length {
            let octet = out.data[out.data.len() - distance];
            out.push(octet, reader.place)?;
        }
    }
}
