//! `kubectl mesh-proxyver`, the real binary run by the real kubectl.

mod clusters;
mod connections;
mod files;
mod hostile_files;
mod hostile_text;
mod kubeconfigs;
mod mid_upgrade;
mod permissions;
mod proxies;
mod snapshots;
mod watch;
