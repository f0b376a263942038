//! `crd`: prints the CustomResourceDefinition.

use super::Ending;
use crate::api::crd;

pub(super) fn run() -> Result<Ending, String> {
    print!("{}", crd::crd_yaml().map_err(|error| error.to_string())?);
    Ok(Ending::Ok)
}
