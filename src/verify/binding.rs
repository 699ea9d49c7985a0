//! The hashes by which a watch is bound to what is paid for: of the quote, and of the authorisation.
