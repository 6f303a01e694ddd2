//! The two objects that open a stream, dmsg dialect.
