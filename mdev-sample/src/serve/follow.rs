//! A directory of definitions and what is served of it, kept equal.
//!
//! inotify only says *that* something changed; what is served is then compared with the whole directory. So no order of
//! events, and none that is lost, leaves the two apart.

use std::collections::BTreeMap;
use std::error::Error;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use mdev_sample::cli::Chain;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use thiserror::Error as ThisError;
use tracing::{info, warn};
use uuid::Uuid;
use vfio_gfx::vfio_user::{EndpointId, WatchId};

use super::{Workshop, socket_path};
use crate::manage::{Definition, Directory};

/// Serves what a directory defines.
pub(super) struct Follower {
    directory: Directory,
    sockets: PathBuf,
    inotify: OwnedFd,
    watch: WatchId,
    served: BTreeMap<Uuid, (Definition, EndpointId)>,
    /// What was last complained about, to say it once.
    complaints: BTreeMap<Uuid, String>,
}

/// A directory that cannot be followed.
#[derive(Debug, ThisError)]
#[error("{}: cannot follow the definitions there", .0.display())]
struct Unfollowed(PathBuf, #[source] rustix::io::Errno);

impl Follower {
    /// Serves what is defined now, and has the server tell of changes.
    pub(super) fn new(
        directory: Directory,
        sockets: &Path,
        workshop: &mut Workshop,
    ) -> Result<Self, Box<dyn Error>> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(|errno| Unfollowed(directory.path().to_owned(), errno))?;
        let watched = inotify.as_fd().try_clone_to_owned().and_then(|fd| workshop.server.watch(fd));
        let watch =
            watched.map_err(|error| format!("cannot wait for changes of the definitions: {error}"))?;
        let sockets = sockets.to_owned();
        let (served, complaints) = (BTreeMap::new(), BTreeMap::new());
        let mut follower = Self { directory, sockets, inotify, watch, served, complaints };
        follower.watch(follower.directory.path())?;
        follower.update(workshop);
        Ok(follower)
    }

    /// What the server tells changes by.
    pub(super) fn watch_id(&self) -> WatchId {
        self.watch
    }

    fn watch(&self, path: &Path) -> Result<(), Unfollowed> {
        let changes = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::ONLYDIR;
        // A directory that is watched already stays so.
        inotify::add_watch(&self.inotify, path, changes)
            .map_err(|errno| Unfollowed(path.to_owned(), errno))?;
        Ok(())
    }

    /// Serves what is defined and takes away what is not, or no longer so. A definition that became unreadable stays as
    /// it was; a device that cannot be served is tried again with the next change.
    pub(super) fn update(&mut self, workshop: &mut Workshop) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        while events.next().is_ok() {}
        // Watched before read: what comes in between is told.
        for folder in self.directory.parents().unwrap_or_default() {
            if let Err(error) = self.watch(&folder) {
                warn!("{}", Chain(&error));
            }
        }
        let (wanted, faults) = match self.directory.scan() {
            Ok(found) => found,
            Err(error) => return warn!("{}", Chain(&error)),
        };
        let mut complaints = BTreeMap::new();
        for fault in &faults {
            complaints.insert(fault.uuid, Chain(fault).to_string());
        }
        self.served.retain(|uuid, (served, id)| {
            let stays = faults.iter().any(|fault| fault.uuid == *uuid) || wanted.contains(served);
            if !stays {
                workshop.take_away(*id);
            }
            stays
        });
        for definition in wanted {
            let Definition { uuid, device_type, interfaces, .. } = definition;
            if !definition.is_automatic() || self.served.contains_key(&uuid) {
                continue;
            }
            let path = socket_path(&self.sockets, uuid);
            match workshop.serve(uuid, device_type, interfaces, None, &path) {
                Ok(id) => {
                    info!(%uuid, mdev_type = device_type.name(), socket = %path.display(), "serving");
                    self.served.insert(uuid, (definition, id));
                }
                Err(error) => {
                    complaints.insert(uuid, Chain(error.as_ref()).to_string());
                }
            }
        }
        for (uuid, complaint) in &complaints {
            if self.complaints.get(uuid) != Some(complaint) {
                warn!(%uuid, "not served: {complaint}");
            }
        }
        self.complaints = complaints;
    }
}
