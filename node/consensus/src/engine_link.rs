//! The way from the network into the engine of the moment. Events go to the engine's actors one by one and in order; when the engine is
//! started again, the new one subscribes here.

use crate::context::Anji;
use arc_malachitebft_app_channel::app::engine::network::{NetworkEvent, Subscriber};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whoever in the engine listens to the network: consensus and sync.
#[derive(Default)]
pub(crate) struct EngineLink(Mutex<Vec<Box<dyn Subscriber<NetworkEvent<Anji>>>>>);

impl EngineLink {
    /// A new listener, which is told `first` before anything else.
    pub(crate) fn subscribe(
        &self,
        subscriber: Box<dyn Subscriber<NetworkEvent<Anji>>>,
        first: impl IntoIterator<Item = NetworkEvent<Anji>>,
    ) {
        let mut subscribers = self.lock();
        for event in first {
            subscriber.send(event);
        }
        subscribers.push(subscriber);
    }

    /// Tells everybody.
    pub(crate) fn emit(&self, event: &NetworkEvent<Anji>) {
        for subscriber in self.lock().iter() {
            subscriber.send(event.clone());
        }
    }

    /// The engine ends: nobody listens any more.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Box<dyn Subscriber<NetworkEvent<Anji>>>>> {
        // Sending is a push to an actor's mailbox; it neither blocks nor panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
