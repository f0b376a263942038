//! `crd`: prints the CustomResourceDefinition.

use super::{Ending, output};
use crate::api::crd;

pub(super) fn run() -> Result<Ending, String> {
    let text = crd::crd_yaml().map_err(|error| error.to_string())?;
    output::say!("{}", text.trim_end_matches('\n'));
    Ok(Ending::Ok)
}
