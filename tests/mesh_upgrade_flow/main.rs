//! Whole upgrades on real control planes, with a client that creates pods all the time.

mod client;
mod flow;
mod istio_canary;
mod needs;
mod world;
