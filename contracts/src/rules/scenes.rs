//! Where credit is served. Social transfer never is, whoever agreed to it: credit must not be cashed out.

use crate::reject::Reject;
use crate::types::{Scene, SceneSet};

/// Scenes that are never served, judged before anything else touches the issuer.
pub(crate) const fn check_allowed(scenes: SceneSet) -> Result<(), Reject> {
    if scenes.contains(Scene::SocialTransfer) { Err(Reject::SceneForbidden) } else { Ok(()) }
}

/// The scene of a payment is one that both sides agreed on the mandate.
pub(crate) const fn check_agreed(scene: Scene, agreed: SceneSet) -> Result<(), Reject> {
    if agreed.contains(scene) { Ok(()) } else { Err(Reject::SceneNotAgreed) }
}

/// Scenes that a mandate may agree on: at least one.
pub(crate) const fn check_some(scenes: SceneSet) -> Result<(), Reject> {
    if scenes.is_empty() { Err(Reject::SceneNotAgreed) } else { Ok(()) }
}
