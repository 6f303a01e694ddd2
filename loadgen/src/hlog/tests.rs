//! Logs that are good, cut, flipped, or claim what they do not hold.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer, V2Serializer};

use super::*;

fn histogram(digits: u8) -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, digits).unwrap();
    for n in 1..2_000_u64 {
        histogram.record(n * n * 37).unwrap();
    }
    histogram
}

fn plain(histogram: &Histogram<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    V2Serializer::new()
        .serialize(histogram, &mut bytes)
        .unwrap();
    bytes
}

/// Wraps what claims to be a plain histogram.
fn deflated(inner: &[u8]) -> Vec<u8> {
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(inner).unwrap();
    let zlib = zlib.finish().unwrap();
    let mut bytes = DEFLATED.to_be_bytes().to_vec();
    bytes.extend(u32::try_from(zlib.len()).unwrap().to_be_bytes());
    bytes.extend(zlib);
    bytes
}

fn line(bytes: &[u8]) -> String {
    format!(
        "Tag=response,0.000,1.000,2.000,{}\n",
        STANDARD.encode(bytes)
    )
}

/// Reads `text` as a file.
fn entries(text: &[u8]) -> Result<Vec<Entry>, LogError> {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("latency.hlog");
    fs::write(&path, text).unwrap();
    Log::open(&path)?.collect()
}

fn why(text: &[u8]) -> String {
    entries(text).unwrap_err().to_string()
}

#[test]
fn plain_and_deflated_histograms_open() {
    for digits in 1..=3 {
        let histogram = histogram(digits);
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&histogram, &mut bytes)
            .unwrap();
        for bytes in [bytes, plain(&histogram), deflated(&plain(&histogram))] {
            let found = entries(line(&bytes).as_bytes()).unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].tag, "response");
            assert_eq!(found[0].histogram, histogram);
        }
    }
}

#[test]
fn comments_legends_and_missing_tags_are_fine() {
    let bytes = deflated(&plain(&histogram(3)));
    let text = format!(
        "#[a comment]\n\"StartTimestamp\",\"x\"\n\n0.5,1,2,{}\r\n{}",
        STANDARD.encode(&bytes),
        line(&bytes).trim_end()
    );
    let found = entries(text.as_bytes()).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].tag, "");
    assert_eq!(found[0].start, Duration::from_millis(500));
}

#[test]
fn lines_that_are_none_are_named_with_file_and_line() {
    let good = line(&deflated(&plain(&histogram(3))));
    for (text, word) in [
        ("x", "no line"),
        ("Tag=response", "no line"),
        ("1,2,3", "no line"),
        ("1,2,3,4,5", "no line"),
        ("x,2,3,AAAA", "'x' is no number"),
        ("-1,2,3,AAAA", "'-1' is no number"),
        ("1e300,2,3,AAAA", "no time"),
        ("1,NaN,3,AAAA", "no number"),
        ("1,2,3,!", "base64"),
        ("1,2,3,", "cut short"),
        ("1,2,3,AAAAAAAA", "no sign of format V2"),
    ] {
        let said = why(format!("#[x]\n{good}{text}\n{good}").as_bytes());
        assert!(said.contains("latency.hlog: line 3: "), "{text}: {said}");
        assert!(said.contains(word), "{text}: {said}");
        assert!(said.len() < 300, "{said}");
    }
    assert!(why(b"#[x]\n\x7fELF\xff\xfe").contains("line 2: "));
}

#[test]
fn a_line_without_end_is_not_read_to_it() {
    let long = vec![b'A'; usize::try_from(LINE_BYTES_MAX).unwrap() + 2];
    assert!(why(&long).contains("line 1: it is longer"));
    assert!(
        Log::open(Path::new("/dev/zero"))
            .unwrap_err()
            .why
            .contains("no file")
    );
    assert!(Log::open(Path::new("/nowhere/x.hlog")).is_err());
}

/// A plain histogram with another head.
fn claims(at: usize, value: &[u8]) -> Vec<u8> {
    let mut inner = plain(&histogram(3));
    inner[at..at + value.len()].copy_from_slice(value);
    inner
}

#[test]
fn heads_that_claim_too_much_are_refused() {
    // Places of the head: sign, length, offset, digits, low, high, ratio.
    for (inner, word) in [
        (claims(0, &[0]), "no format V2"),
        (claims(4, &u32::MAX.to_be_bytes()), "claims 4294967295"),
        (claims(4, &0_u32.to_be_bytes()), "claims 0"),
        (claims(8, &1_u32.to_be_bytes()), "shifted"),
        (claims(12, &5_u32.to_be_bytes()), "5 significant"),
        (claims(12, &0_u32.to_be_bytes()), "0 significant"),
        (claims(12, &u32::MAX.to_be_bytes()), "significant"),
        (claims(16, &0_u64.to_be_bytes()), "range"),
        (claims(16, &u64::MAX.to_be_bytes()), "range"),
        (claims(24, &u64::MAX.to_be_bytes()), "range"),
        (claims(24, &0_u64.to_be_bytes()), "range"),
        (claims(32, &2.0_f64.to_be_bytes()), "scaled"),
        (plain(&histogram(3))[..39].to_vec(), "ends within"),
        (Vec::new(), "ends within"),
    ] {
        let said = why(line(&deflated(&inner)).as_bytes());
        assert!(said.contains(word), "{word}: {said}");
        assert!(said.contains("line 1: "), "{said}");
    }
}

#[test]
fn a_small_text_that_inflates_to_gigabytes_is_given_up() {
    // 64 MiB of zeros; reading stops at the bound.
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    let zeros = vec![0; 1 << 20];
    for _ in 0..64 {
        zlib.write_all(&zeros).unwrap();
    }
    let zlib = zlib.finish().unwrap();
    let mut bytes = DEFLATED.to_be_bytes().to_vec();
    bytes.extend(u32::try_from(zlib.len()).unwrap().to_be_bytes());
    bytes.extend(zlib);
    let inner = inflate(&bytes).unwrap_err();
    assert!(inner.contains("inflates to more"), "{inner}");
}

/// A plain histogram with these bytes of counts.
fn counts(counts: &[u8]) -> Vec<u8> {
    let mut inner = plain(&histogram(3))[..40].to_vec();
    let length = u32::try_from(counts.len()).unwrap();
    inner[4..8].copy_from_slice(&length.to_be_bytes());
    inner.extend(counts);
    inner
}

#[test]
fn counts_that_cannot_be_are_refused() {
    // All ones is the smallest number, which has no opposite.
    let lowest = [0xff; 9];
    let largest = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    for (bytes, word) in [
        (lowest.to_vec(), "more counts"),
        (largest.repeat(3), "add up"),
        (vec![0x80], "ends within"),
        (vec![2; 1 << 18], "more counts"),
        // Fewer than the bound, more than this range has.
        (vec![2; 60_000], "too long"),
    ] {
        let said = unpack(&counts(&bytes)).unwrap_err();
        let is_named = said.contains(word) || said.contains("longer than");
        assert!(is_named, "{word}: {said}");
    }
    assert_eq!(unpack(&counts(&[2, 4])).unwrap().len(), 3);
}

#[test]
fn cut_and_flipped_bytes_never_panic() {
    let inner = plain(&histogram(3));
    for whole in [inner.clone(), deflated(&inner)] {
        for end in 0..whole.len().min(400) {
            assert!(unpack(&whole[..end]).is_err(), "cut at {end}");
        }
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2_000 {
            let mut bytes = whole.clone();
            for _ in 0..random.usize(1..4) {
                // Mostly the head, where the claims are.
                let within = if random.bool() { 60 } else { bytes.len() };
                let at = random.usize(..within.min(bytes.len()));
                bytes[at] ^= 1 << random.u32(..8);
            }
            // A flipped count is a histogram too; it must be one of a bounded range.
            if let Ok(histogram) = unpack(&bytes) {
                assert!(histogram.high() <= RANGE_MAX && histogram.sigfig() <= 3);
            }
        }
    }
}
