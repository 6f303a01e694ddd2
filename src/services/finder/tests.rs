//! Tests of the finder as a service.
