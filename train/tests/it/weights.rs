//! Weight files: formats, wrappers, prefixes, and files that must be refused.
