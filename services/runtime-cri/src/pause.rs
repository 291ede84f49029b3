//! The sandbox image: our own `pause` program, compiled from `pause/pause.c`, so that no registry is needed to start.

use crate::oci::{Entry, ImageConfig, OciError, OciImage};

const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));

/// The image.
pub fn image() -> Result<OciImage, OciError> {
    let config = ImageConfig { entrypoint: vec!["/pause".into()], ..ImageConfig::default() };
    OciImage::build(&[Entry::executable("pause", PROGRAM.to_vec())], &config)
}

/// The reference that it is imported under; another program gives another reference.
pub fn reference(image: &OciImage) -> String {
    let hex = image.manifest.digest.trim_start_matches("sha256:");
    format!("wherry.local/pause:{}", hex.get(..16).unwrap_or(hex))
}
