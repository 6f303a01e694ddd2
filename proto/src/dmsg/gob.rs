//! The encoding of Go values (`encoding/gob`), as far as dmsg uses it.
