//! Stream handshake of the dmsg dialect: Noise KK from client to client.
