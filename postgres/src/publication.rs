//! The publications on the server: what they are, which tables they carry, and what puts both right.

mod definition;
mod members;
mod repair;

pub use definition::{Faults, Publication, PublicationNames, faults, publications, spoken_of};
pub use members::{Correction, Members, NO_PUBLICATION, NewOwners};
pub use repair::put_right;
