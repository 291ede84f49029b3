//! The place where the current zone stands: one pointer, read by the servers without a lock.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwapOption, Guard};

use crate::zone::{Apex, Zone};
use crate::zone_builder::ZoneError;

/// Why a zone was not stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A newer zone is already served: the caller lost a race or went back in time, and its zone must not be served.
    #[error(
        "zone '{apex}' already serves serial {current}; serial {offered} is older, build it anew from current facts"
    )]
    Stale {
        /// Top of the zone.
        apex: String,
        /// What is served.
        current: u32,
        /// What was offered.
        offered: u32,
    },
    /// The zone belongs under another name.
    #[error("this server serves '{apex}', not '{offered}'; build the zone with that apex")]
    OtherApex {
        /// What is served.
        apex: String,
        /// What was offered.
        offered: String,
    },
}

/// Holds the zone that is served now. Until the first [`store`](Self::store) its names answer SERVFAIL, so that nobody
/// remembers a name as missing only because the server has just begun.
pub struct ZoneHandle {
    apex: Apex,
    current: ArcSwapOption<Zone>,
    /// Makes compare and swap of writers one step; readers never take it.
    writing: Mutex<()>,
}

impl ZoneHandle {
    /// A handle for the zone under `apex`, with no zone yet.
    pub fn new(apex: &str) -> Result<Arc<Self>, ZoneError> {
        Ok(Arc::new(Self { apex: Apex::parse(apex)?, current: ArcSwapOption::empty(), writing: Mutex::new(()) }))
    }

    /// Serves `zone` from now on, whole. The same serial may be stored again; an older one is refused. Serials compare as
    /// plain numbers: they come from a counter that does not wrap within 2³² changes.
    pub fn store(&self, zone: Zone) -> Result<(), StoreError> {
        if zone.apex() != self.apex.text {
            return Err(StoreError::OtherApex { apex: self.apex.text.clone(), offered: zone.apex().to_owned() });
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = self.current.load().as_ref().filter(|current| zone.serial() < current.serial()) {
            return Err(StoreError::Stale {
                apex: self.apex.text.clone(),
                current: current.serial(),
                offered: zone.serial(),
            });
        }
        self.current.store(Some(Arc::new(zone)));
        Ok(())
    }

    /// The zone that is served now.
    pub fn current(&self) -> Option<Arc<Zone>> {
        self.current.load_full()
    }

    pub(crate) fn load(&self) -> Guard<Option<Arc<Zone>>> {
        self.current.load()
    }

    pub(crate) fn apex(&self) -> &Apex {
        &self.apex
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone_builder::ZoneBuilder;

    fn zone(apex: &str, serial: u32) -> Zone {
        ZoneBuilder::new(apex, serial, 0).unwrap().build().unwrap()
    }

    #[test]
    fn an_older_serial_is_refused_and_the_newer_zone_stays() {
        let handle = ZoneHandle::new("a.internal").unwrap();
        assert!(handle.current().is_none());
        handle.store(zone("A.internal.", 7)).unwrap();
        handle.store(zone("a.internal", 7)).unwrap();
        assert!(matches!(handle.store(zone("a.internal", 6)), Err(StoreError::Stale { current: 7, offered: 6, .. })));
        assert_eq!(handle.current().unwrap().serial(), 7);
        handle.store(zone("a.internal", u32::MAX)).unwrap();
    }

    #[test]
    fn another_apex_is_refused() {
        let handle = ZoneHandle::new("a.internal").unwrap();
        assert!(matches!(handle.store(zone("b.internal", 1)), Err(StoreError::OtherApex { .. })));
    }
}
