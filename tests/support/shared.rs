//! One cluster for all tests of a test binary, started by the first that asks.

use std::sync::OnceLock;

use anyhow::{Result, anyhow, ensure};

use crate::{Cluster, IstioVersion, Options, Revision};

impl Cluster {
    /// The cluster that the tests of this process share: the revisions `1-26-0` and `1-28-2` are installed, in this order.
    ///
    /// A test keeps to namespaces and tags of its own, and starts a cluster of its own before it changes what others look at.
    pub fn shared() -> Result<&'static Self> {
        let cluster = SHARED.get_or_init(|| start().map_err(|error| format!("{error:#}")));
        cluster.as_ref().map_err(|error| anyhow!("the shared cluster: {error}"))
    }
}

static SHARED: OnceLock<Result<Cluster, String>> = OnceLock::new();

fn start() -> Result<Cluster> {
    let cluster = Cluster::start(&Options::default())?;
    for version in [IstioVersion::V1_26_0, IstioVersion::V1_28_2] {
        cluster.install(&Revision::of(version))?;
    }
    #[expect(unsafe_code, reason = "libtest drops no static, so the C library's exit hook has to end the cluster")]
    // SAFETY: `stop` is a plain function that takes nothing and does not unwind.
    let hooked = unsafe { libc::atexit(stop) };
    ensure!(hooked == 0, "the C library takes no exit hook, so the cluster could not be ended");
    Ok(cluster)
}

extern "C" fn stop() {
    if let Some(Ok(cluster)) = SHARED.get() {
        cluster.stop();
    }
}
