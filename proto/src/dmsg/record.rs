//! Frames of a stream between its two ends, dmsg dialect.
