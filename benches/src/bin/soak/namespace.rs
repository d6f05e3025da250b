//! A network namespace of our own: its settings are nobody else's.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;

use benches::Result;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Goes with this value.
pub struct Namespace(String);

impl Namespace {
    pub fn make() -> Result<Self> {
        Self::create(format!("soak-{}", std::process::id()))
    }

    /// One of several.
    pub fn named(part: &str) -> Result<Self> {
        Self::create(format!("soak-{}-{part}", std::process::id()))
    }

    fn create(name: String) -> Result<Self> {
        run(&["netns", "add", &name])?;
        let made = Self(name);
        made.ip(&["link", "set", "lo", "up"])?;
        Ok(made)
    }

    pub fn name(&self) -> &str {
        &self.0
    }

    /// Moves the calling thread; threads and processes that it starts are there too.
    pub fn enter(&self) -> Result<()> {
        let file = File::open(format!("/run/netns/{}", self.0))?;
        Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
    }

    /// `ip` inside it.
    pub fn ip(&self, args: &[&str]) -> Result<()> {
        let inside = [&["-n", self.0.as_str()], args].concat();
        run(&inside)
    }

    /// Sets a `net.` value, here only.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        run(&["netns", "exec", &self.0, "sysctl", "-qw", &format!("{key}={value}")])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(e) = run(&["netns", "del", &self.0]) {
            eprintln!("soak: {e}");
        }
    }
}

fn run(args: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(args).output().map_err(|e| format!("ip: {e}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("ip {}: {}", args.join(" "), said.trim()).into());
    }
    Ok(())
}
