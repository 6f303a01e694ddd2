//! Keys and signatures of the dmsg dialect: secp256k1, recoverable ECDSA over SHA-256.
