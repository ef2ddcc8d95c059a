//! `qemu-shim vnc`

use std::error::Error;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use vfio_gfx_sandbox::{Plan, Sandbox};

use crate::input::InputTarget;
use crate::net::{Address, Listener, Origin, Site, check_exposure, load_tls};
use crate::rfb::handshake::{Policy, Tls};
use crate::rfb::security::Password;
use crate::target::Target;
use crate::vnc::{Door, Server, Settings};

#[derive(Debug, Args)]
pub(super) struct Vnc {
    /// The device.
    device: Target,
    /// Where viewers connect: IP:PORT or unix:PATH.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5900", value_parser = Address::parse)]
    listen: Address,
    /// Where browsers connect; prints a link to click.
    #[arg(long, value_name = "ADDRESS", value_parser = Address::parse)]
    websocket: Option<Address>,
    /// Ask viewers for the password in this file: its first line, of which the protocol uses 8 bytes.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Where keys and pointer go: none, or qmp:PATH, a monitor of the QEMU that runs the guest.
    #[arg(long, value_name = "SINK", default_value = "none")]
    input: InputTarget,
    /// A certificate in PEM: viewers may encrypt, and browsers must (https).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Refuse viewers that do not encrypt.
    #[arg(long, requires = "tls_cert")]
    tls_required: bool,
    /// Let other machines connect without a password.
    #[arg(long)]
    public_without_password: bool,
    /// Pages of this origin, too, may connect to --websocket; for a noVNC of your own. May be repeated.
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<Origin>,
    /// Viewers may not ask the guest for another size.
    #[arg(long)]
    no_resize: bool,
    /// The desktop's name; the device if not given.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    sandbox: Sandbox,
}

impl Vnc {
    pub(super) fn run(&self) -> Result<(), Box<dyn Error>> {
        let password = self.password()?;
        for address in [Some(&self.listen), self.websocket.as_ref()].into_iter().flatten() {
            check_exposure(address, password.is_some(), self.public_without_password)?;
        }
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(load_tls(certificate, key)?),
            _ => None,
        };
        let stop = stop_signal().map_err(|error| format!("cannot prepare for signals: {error}"))?;
        let console = self.device.console()?;
        let plain = Listener::bind(&self.listen)?;
        let mut ready = vec![format!("qemu-shim: VNC of {} ready on {}", self.device, plain.address())];
        let mut doors = vec![Door::Plain(plain)];
        if let Some(address) = &self.websocket {
            let listener = Listener::bind(address)?;
            match listener.link(tls.is_some()) {
                Some(link) => ready.push(link.to_string()),
                None => ready.push(listener.address().to_string()),
            }
            let site = Site::new(listener.address(), self.allow_origin.clone());
            doors.push(Door::Web(listener, Arc::new(site)));
        }
        let policy = Policy {
            password,
            tls: match (&tls, self.tls_required) {
                (None, _) => Tls::Off,
                (Some(_), false) => Tls::Offered,
                (Some(_), true) => Tls::Required,
            },
        };
        let settings = Settings {
            name: self.name.clone().unwrap_or_else(|| self.device.to_string()),
            policy,
            tls,
            may_resize: !self.no_resize,
        };
        // Nothing that a device or a viewer sends is read outside of the sandbox, but what the console probed above.
        let plan = self.plan();
        let restricted = self.sandbox.restrict(&plan)?;
        // A thread of its own, which the filter must find there.
        let sink = self.input.open()?;
        restricted.seal()?;
        let mut server = Server::new(console, doors, sink, settings);
        // Whoever started it need not listen.
        let _ = writeln!(io::stdout(), "{}", ready.join(" and "));
        Ok(server.run(stop.as_fd())?)
    }

    /// What is needed once all is open.
    fn plan(&self) -> Plan {
        let mut plan = Plan::new();
        for address in [Some(&self.listen), self.websocket.as_ref()].into_iter().flatten() {
            if let Address::Unix(path) = address {
                plan = plan.removes_socket(path);
            }
        }
        plan = match &self.device {
            Target::Sample(_) => plan,
            Target::VfioUser(path) => plan.connects_to(path),
            Target::Vfio(_) => plan.uses_vfio(),
        };
        match &self.input {
            InputTarget::None => plan,
            InputTarget::Qmp(path) => plan.connects_to(path),
        }
    }

    fn password(&self) -> Result<Option<Password>, Box<dyn Error>> {
        let Some(path) = &self.password_file else { return Ok(None) };
        let named = |error: &dyn Error| format!("{}: {error}", path.display());
        let text = std::fs::read(path).map_err(|error| named(&error))?;
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let password =
            Password::new(line.strip_suffix(b"\r").unwrap_or(line)).map_err(|error| named(&error))?;
        if password.is_truncated() {
            tracing::warn!("{}: only the first 8 bytes of a VNC password count", path.display());
        }
        Ok(Some(password))
    }
}

/// Something that becomes readable when the program is to end.
fn stop_signal() -> io::Result<UnixStream> {
    let (stop, signal) = UnixStream::pair()?;
    for number in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::low_level::pipe::register(number, signal.try_clone()?)?;
    }
    Ok(stop)
}
