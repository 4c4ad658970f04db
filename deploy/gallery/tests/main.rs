//! One suite for every engine, and what only the store promises: nothing lost, nothing mixed up, whatever happens.

#[cfg(feature = "ann")]
mod approximate;
mod damage;
mod disk;
mod engines;
mod faults;
mod kill;
mod log;
mod migrate;
#[cfg(feature = "milvus")]
mod milvus;
mod once;
mod people;
mod random;
mod reduced;
mod renewable;
mod scan;
mod sealed;
mod store;
mod suite;
mod support;
