//! Marigram: protocols and process.
