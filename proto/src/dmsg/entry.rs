//! Entries of a dmsg discovery: signed records of servers and clients, as JSON.
