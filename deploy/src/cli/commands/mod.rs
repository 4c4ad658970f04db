//! One file per verb.

pub(super) mod calibrate;
pub(super) mod doctor;
pub(super) mod embed;
pub(super) mod enroll;
pub(super) mod evaluate;
pub(super) mod frontalize;
pub(super) mod generate;
pub(super) mod inspect;
pub(super) mod search;
mod verification;
pub(super) mod verify;
