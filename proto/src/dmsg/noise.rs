//! snow with the Diffie-Hellman of dmsg.
