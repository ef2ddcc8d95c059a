//! `qemu-shim info`

use std::error::Error;
use std::io::{self, Write};

use clap::Args;
use serde_json::{Value, json};
use vfio_gfx::abi::caps::RegionCap;
use vfio_gfx::abi::{PlaneKind, RegionFlags};
use vfio_gfx::display::{Display, DisplayError, KernelError, RegionSummary};
use vfio_gfx::edid;
use vfio_gfx::plane::{Plane, Source};

use crate::target::Target;

#[derive(Debug, Args)]
pub(super) struct Info {
    /// The device.
    pub(super) device: Target,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// Most regions and interrupts that are listed.
const MAX_LISTED: u32 = 64;

/// Everything that is told, whether as JSON or as text.
struct Facts {
    flags: u32,
    regions: Vec<RegionSummary>,
    irqs: Vec<u32>,
    /// Whether the device tells of display changes.
    events: bool,
    interfaces: Vec<&'static str>,
    planes: Vec<Plane>,
    /// What kind of buffer the primary plane came in.
    buffer: Option<&'static str>,
    edid: Option<Vec<u8>>,
}

impl Info {
    pub(super) fn run(&self) -> Result<(), Box<dyn Error>> {
        let facts = Facts::gather(&mut self.device.open()?)?;
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", facts.to_json(&self.device))?;
        } else {
            facts.print(&self.device, &mut out)?;
        }
        Ok(())
    }
}

impl Facts {
    fn gather(display: &mut Display) -> Result<Self, Box<dyn Error>> {
        let device = display.backend().device()?;
        let mut regions = Vec::new();
        for index in 0..device.num_regions.min(MAX_LISTED) {
            regions.push(display.backend().region(index)?);
        }
        let mut irqs = Vec::new();
        for index in 0..device.num_irqs.min(MAX_LISTED) {
            irqs.push(display.backend().irq_count(index)?);
        }
        let mut planes = Vec::new();
        for kind in PlaneKind::ALL {
            planes.extend(display.plane(kind)?);
        }
        let mut buffer = None;
        for plane in &planes {
            match plane.source {
                // The display region may lie beyond those that the device counts.
                Source::Region { index, .. } if regions.iter().all(|region| region.index != index) => {
                    regions.push(display.backend().region(index)?);
                }
                Source::Region { .. } => {}
                Source::Buffer { id, .. } => {
                    buffer = Some(match display.backend().map_buffer(id) {
                        Ok(buffer) => buffer.kind.name(),
                        // Buffers of the kernel's mbochs can be imported, not mapped.
                        Err(DisplayError::Kernel(KernelError::Unmappable { .. })) => {
                            "dma-buf that cannot be mapped"
                        }
                        Err(error) => return Err(error.into()),
                    });
                }
            }
        }
        let edid = display.edid()?;
        let events = display.backend().watch()?.is_some();
        let interfaces = display.offered().iter().map(|interface| interface.name()).collect();
        Ok(Self { flags: device.flags.bits(), regions, irqs, events, interfaces, planes, buffer, edid })
    }

    fn to_json(&self, device: &Target) -> Value {
        json!({
            "device": device.to_string(),
            "flags": self.flags,
            "interfaces": self.interfaces,
            "regions": self.regions.iter().map(region_json).collect::<Vec<_>>(),
            "irqs": self.irqs,
            "events": self.events,
            "planes": self.planes.iter().map(plane_json).collect::<Vec<_>>(),
            "buffer": self.buffer,
            "edid": self.edid.as_deref().map(edid_json),
        })
    }

    fn print(&self, device: &Target, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{device}: interfaces {}", self.interfaces.join(", "))?;
        for region in self.regions.iter().filter(|region| region.size > 0) {
            let caps: Vec<String> = region.caps.iter().map(cap_name).collect();
            let flags = flag_names(region.flags).join(" ");
            writeln!(
                out,
                "region {:>2}  {:>#11x} bytes  {flags}  {}",
                region.index,
                region.size,
                caps.join(" ")
            )?;
        }
        for (index, count) in self.irqs.iter().enumerate().filter(|(_, count)| **count > 0) {
            writeln!(out, "irq {index}  {count}")?;
        }
        if self.events {
            writeln!(out, "tells of display changes")?;
        }
        for plane in &self.planes {
            let geometry = plane.geometry;
            let place = match plane.source {
                Source::Region { index, offset } => format!("region {index} offset {offset:#x}"),
                Source::Buffer { id, .. } => format!("buffer {id} ({})", self.buffer.unwrap_or("?")),
            };
            writeln!(
                out,
                "{}  {}x{} {} {}  stride {}  size {}  {place}",
                plane.kind.name(),
                geometry.width(),
                geometry.height(),
                plane.format,
                plane.modifier,
                geometry.stride(),
                plane.size,
            )?;
        }
        if self.planes.is_empty() {
            writeln!(out, "every plane is off")?;
        }
        match self.edid.as_deref() {
            None => {}
            Some([]) => writeln!(out, "EDID: link down")?,
            Some(blob) => match edid::parse(blob) {
                Ok(info) => {
                    let name = info.name().map(|name| name.as_str().to_owned()).unwrap_or_default();
                    let mode = info.preferred().map(|mode| mode.to_string()).unwrap_or_default();
                    writeln!(out, "EDID: {} bytes, {name:?}, preferred {mode}", blob.len())?;
                }
                Err(error) => writeln!(out, "EDID: {} bytes, malformed: {error}", blob.len())?,
            },
        }
        Ok(())
    }
}

fn flag_names(flags: RegionFlags) -> Vec<&'static str> {
    let names = [(RegionFlags::READ, "read"), (RegionFlags::WRITE, "write"), (RegionFlags::MMAP, "mmap")];
    names.into_iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, name)| name).collect()
}

fn cap_name(cap: &RegionCap) -> String {
    match cap {
        RegionCap::SparseMmap(areas) => format!("sparse({})", areas.len()),
        cap if *cap == RegionCap::GFX_EDID => "gfx-edid".to_owned(),
        RegionCap::Type { ty, subtype } => format!("type({ty:#x},{subtype})"),
        RegionCap::Other { id, version } => format!("cap({id},v{version})"),
    }
}

fn region_json(region: &RegionSummary) -> Value {
    json!({
        "index": region.index,
        "size": region.size,
        "flags": flag_names(region.flags),
        "caps": region.caps.iter().map(cap_name).collect::<Vec<_>>(),
    })
}

fn plane_json(plane: &Plane) -> Value {
    let geometry = plane.geometry;
    let (region, buffer) = match plane.source {
        Source::Region { index, .. } => (Some(index), None),
        Source::Buffer { id, .. } => (None, Some(id)),
    };
    json!({
        "type": plane.kind.name(),
        "format": plane.format.to_string(),
        "modifier": plane.modifier.bits(),
        "width": geometry.width(),
        "height": geometry.height(),
        "stride": geometry.stride(),
        "size": plane.size,
        "x": plane.position.0,
        "y": plane.position.1,
        "hotspot": plane.hotspot,
        "region_index": region,
        "dmabuf_id": buffer,
        "offset": plane.source.offset(),
    })
}

fn edid_json(blob: &[u8]) -> Value {
    let hex: String = blob.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut value =
        json!({ "link": if blob.is_empty() { "down" } else { "up" }, "size": blob.len(), "blob": hex });
    match edid::parse(blob) {
        Ok(info) => {
            value["name"] = json!(info.name().map(|name| name.as_str().to_owned()));
            value["preferred"] = json!(info.preferred().map(|mode| [mode.width, mode.height]));
        }
        Err(error) if !blob.is_empty() => value["error"] = json!(error.to_string()),
        Err(_) => {}
    }
    value
}
