//! Masking (RFC 6455 §5.3): octet i of the payload is combined with octet i mod 4 of the key.
//!
//! The kernel walks whole vectors with the key repeated, in a shape the compiler turns into the
//! target's vector instructions; the tests hold it against the octet-wise definition.
//!
//! Does not know: frames, roles, or where keys come from.

/// A source of unpredictable bytes, for masking keys and handshake keys.
///
/// RFC 6455 §5.3 and §10.3: the keys must be unpredictable to the application that supplies the
/// data, so an implementation used on a network must be cryptographically strong.
pub trait Random {
    /// Fills `buffer` with fresh random bytes.
    fn fill(&mut self, buffer: &mut [u8]);

    /// A fresh masking key.
    fn masking_key(&mut self) -> [u8; 4] {
        let mut key = [0; 4];
        self.fill(&mut key);
        key
    }
}

/// Bytes combined in one step of the kernel.
const STEP: usize = 64;

/// The key as it applies from the octet at `offset` on.
#[inline]
pub(crate) fn rotate(key: [u8; 4], offset: u64) -> [u8; 4] {
    let mut key = key;
    key.rotate_left((offset & 3) as usize);
    key
}

/// Masks or unmasks `data` in place; its first octet meets the first octet of `key`.
#[inline]
pub fn apply_mask(data: &mut [u8], key: [u8; 4]) {
    if data.len() < STEP {
        return short(data, key);
    }
    let mut pattern = [0u8; STEP];
    pattern.as_chunks_mut::<4>().0.fill(key);
    let (blocks, rest) = data.as_chunks_mut::<STEP>();
    long(blocks, &pattern);
    short(rest, key);
}

/// The kernel for whole steps, for the processor at hand.
fn long(blocks: &mut [[u8; STEP]], pattern: &[u8; STEP]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the feature that the function is compiled for.
        return unsafe { long_avx2(blocks, pattern) };
    }
    walk(blocks, pattern);
}

/// The same kernel, compiled for wider vectors.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn long_avx2(blocks: &mut [[u8; STEP]], pattern: &[u8; STEP]) {
    walk(blocks, pattern);
}

#[inline(always)]
fn walk(blocks: &mut [[u8; STEP]], pattern: &[u8; STEP]) {
    for block in blocks {
        for (octet, key) in block.iter_mut().zip(pattern) {
            *octet ^= key;
        }
    }
}

/// The kernel for what is shorter than a step.
#[inline]
fn short(data: &mut [u8], key: [u8; 4]) {
    let quad = u64::from(u32::from_ne_bytes(key));
    let pair = quad << 32 | quad;
    let wide = u128::from(pair) << 64 | u128::from(pair);
    let (words, rest) = data.as_chunks_mut::<16>();
    for word in words {
        *word = (u128::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (i, octet) in rest.iter_mut().enumerate() {
        *octet ^= key[i & 3];
    }
}

/// Appends `data` to `out`, masked.
#[inline]
pub(crate) fn append_masked(out: &mut Vec<u8>, data: &[u8], key: [u8; 4]) {
    let start = out.len();
    out.extend_from_slice(data);
    apply_mask(&mut out[start..], key);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octet_wise(data: &mut [u8], key: [u8; 4]) {
        for (i, octet) in data.iter_mut().enumerate() {
            *octet ^= key[i % 4];
        }
    }

    #[test]
    fn agrees_with_the_definition_at_every_length_and_alignment() {
        let source: Vec<u8> = (0..600u32).map(|i| (i * 7 + 13) as u8).collect();
        for start in 0..9 {
            for len in (0..200).chain([255, 256, 257, 511, 512]) {
                let key = [0x37, 0xfa, 0x21, 0x3d];
                let mut plain = source[start..start + len].to_vec();
                let mut pattern = [0; STEP];
                pattern.as_chunks_mut::<4>().0.fill(key);
                let (blocks, rest) = plain.as_chunks_mut::<STEP>();
                walk(blocks, &pattern);
                short(rest, key);
                let mut fast = source[start..start + len].to_vec();
                let mut slow = fast.clone();
                apply_mask(&mut fast, key);
                octet_wise(&mut slow, key);
                assert_eq!(fast, slow, "start {start}, length {len}");
                assert_eq!(plain, slow, "start {start}, length {len}");
                let mut appended = vec![1, 2, 3];
                append_masked(&mut appended, &source[start..start + len], key);
                assert_eq!(appended[3..], slow[..]);
            }
        }
    }

    #[test]
    fn a_payload_masked_in_pieces_equals_one_masked_whole() {
        let source: Vec<u8> = (0..100).collect();
        let key = [1, 2, 3, 4];
        let mut whole = source.clone();
        apply_mask(&mut whole, key);
        for cut in 0..=source.len() {
            let mut pieces = source.clone();
            apply_mask(&mut pieces[..cut], key);
            apply_mask(&mut pieces[cut..], rotate(key, cut as u64));
            assert_eq!(pieces, whole, "cut at {cut}");
        }
    }

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 6455 §5.7: a single-frame masked text message, "Hello".
        let mut hello = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        apply_mask(&mut hello, [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(&hello, b"Hello");
    }
}
