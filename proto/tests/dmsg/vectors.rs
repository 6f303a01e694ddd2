//! Golden vectors of `proto/testdata`.
//!
//! Here: finding the bytes of a vector. Not here: what they mean.

/// Returns name and bytes of every vector of a file of paragraphs `name: ...`, `hex: ...`.
pub(crate) fn all(text: &'static str) -> Vec<(&'static str, Vec<u8>)> {
    let mut vectors = Vec::new();
    let mut name = "";
    for line in text.lines() {
        if let Some(found) = line.strip_prefix("name: ") {
            name = found;
        } else if let Some(digits) = line.strip_prefix("hex: ") {
            vectors.push((name, hex(digits)));
        }
    }
    vectors
}

/// Returns the bytes of one vector.
pub(crate) fn one(text: &'static str, name: &str) -> Vec<u8> {
    let found = all(text).into_iter().find(|(found, _)| *found == name);
    found.expect("a vector of this name").1
}

/// Returns the bytes that hex digits stand for.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    assert!(rest.is_empty(), "an odd number of digits");
    let digit = |digit: u8| {
        let digit = char::from(digit).to_digit(16).expect("a hex digit");
        u8::try_from(digit).expect("a digit is small")
    };
    pairs
        .iter()
        .map(|[high, low]| (digit(*high) << 4) | digit(*low))
        .collect()
}

/// What Go's `encoding/gob` has made of values.
pub(crate) const GOB: &str = include_str!("../../testdata/dmsg_gob.hex");

/// The key that the vectors are made with: a prefix, then every eighth number.
pub(crate) fn key(prefix: u8) -> [u8; 33] {
    let mut key = std::array::from_fn(|position| u8::try_from(position * 8 % 256).unwrap_or(0));
    key[0] = prefix;
    key
}

/// The hash that the vectors are made with: every eighth number, downwards.
pub(crate) fn hash() -> [u8; 32] {
    std::array::from_fn(|position| u8::try_from(255 - position * 8).unwrap_or(0))
}
