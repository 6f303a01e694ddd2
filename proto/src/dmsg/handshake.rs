//! Session handshake of the dmsg dialect: Noise XK over secp256k1.
