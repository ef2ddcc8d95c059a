//! `qemu-shim info`

use serde_json::{Value, json};
use vfio_gfx::device::Interfaces;

use crate::fixture::{Guest, printed};

fn info(device: &str) -> Value {
    let text = printed(&["info", device, "--json"]);
    assert_eq!(text.lines().count(), 1, "one object, one line");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_region_device() {
    let guest = Guest::new("mdpy-xga");
    for device in ["sample:mdpy-xga".to_owned(), guest.device()] {
        let info = info(&device);
        assert_eq!(info["device"], device);
        assert_eq!(info["interfaces"], json!(["region"]));
        assert_eq!(info["edid"], Value::Null);
        assert_eq!(info["irqs"], json!([0, 0, 0, 0, 0]));
        let regions = info["regions"].as_array().unwrap();
        // Nine PCI regions, and the one that the plane is in.
        assert_eq!(regions.len(), 10);
        assert_eq!((&regions[9]["index"], &regions[9]["size"]), (&json!(16), &json!(4 << 20)));
        let [plane] = info["planes"].as_array().unwrap().as_slice() else { panic!("{info}") };
        assert_eq!([&plane["width"], &plane["height"], &plane["stride"]], [1024, 768, 4096]);
    }
    let text = printed(&["info", &guest.device()]);
    for word in [guest.device().as_str(), "region", "1024x768", "XR24", "stride 4096"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn a_buffer_device_with_a_monitor() {
    let mut guest = Guest::new("mbochs-medium");
    let off = printed(&["info", &guest.device()]);
    assert!(off.contains("every plane is off") && off.contains("1024x768"), "the EDID's mode: {off}");
    guest.mode(642, 400, 700);
    let info = info(&guest.device());
    assert_eq!(info["interfaces"], json!(["dmabuf"]));
    let [plane] = info["planes"].as_array().unwrap().as_slice() else { panic!("{info}") };
    assert_eq!([&plane["width"], &plane["height"], &plane["stride"]], [642, 400, 2800]);
    assert_eq!(info["edid"]["preferred"], json!([1024, 768]));
    let blob = info["edid"]["blob"].as_str().unwrap();
    assert!(blob.starts_with("00ffffffffffff00") && blob.len() == 512, "{blob}");
}

#[test]
fn a_device_of_both_kinds() {
    let mut guest = Guest::offering("mbochs-small", Some(Interfaces::all()));
    guest.mode(640, 480, 640);
    assert_eq!(info(&guest.device())["interfaces"], json!(["region", "dmabuf"]));
}
