//! Devices by definition, while somebody serves them and while nobody does.

use std::fs;

use rustix::process::Signal;
use vfio_gfx::abi::PlaneKind;
use vfio_gfx::display::{Display, Remote};
use vfio_gfx::vfio_user::Role;

use crate::program::{A, B, attach, complaint, define, output, run, serve_definitions, socket, until, width};

#[test]
fn definitions_come_and_go_while_they_are_served() {
    let dir = tempfile::tempdir().unwrap();
    define(
        &dir,
        "mdpy",
        A,
        r#"{"mdev_type": "mdpy-vga", "start": "auto", "attrs": [{"interfaces": "both"}]}"#,
    );
    define(&dir, "mdpy", B, r#"{"mdev_type": "mdpy-vga", "start": "manual", "attrs": []}"#);
    define(&dir, "mdpy", "33333333-3333-4333-8333-333333333333", "{");
    let mut serving = serve_definitions(&dir);
    assert!(serving.ready().contains(A));
    assert!(!socket(&dir, B).exists(), "nobody started it");

    let created = output(dir.path(), &["create", "--type", "mbochs-small"]);
    let created = created.trim_end();
    assert!(serving.ready().contains(created));
    let mut console = Display::open(Box::new(Remote::connect(&socket(&dir, created)).unwrap())).unwrap();
    assert!(console.pixels(PlaneKind::Primary).unwrap().is_none(), "off");
    let other = attach(&socket(&dir, A), Role::Vmm);
    let list = output(dir.path(), &["list"]);
    assert_eq!(
        list,
        format!(
            "{created} mbochs mbochs-small auto (active)\n{A} mdpy mdpy-vga auto (active)\n{B} mdpy mdpy-vga manual\n"
        )
    );
    for line in output(dir.path(), &["list", "--json"]).lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["active"].as_bool(), Some(line["uuid"] != B), "{line}");
    }

    // Unplugged: its clients are told, the others are not disturbed.
    output(dir.path(), &["remove", created]);
    until("its socket goes", || !socket(&dir, created).exists());
    assert!(console.pixels(PlaneKind::Primary).is_err());
    assert_eq!(width(&socket(&dir, A)), 640);
    drop(other);

    // Another device of the same name.
    define(&dir, "mdpy", A, r#"{"mdev_type": "mdpy-xga", "start": "auto"}"#);
    assert!(serving.ready().contains("mdpy-xga"));
    assert_eq!(width(&socket(&dir, A)), 1024);
    // A definition that breaks leaves its device alone.
    define(&dir, "mdpy", A, "{");
    // A folder that goes takes all of its devices.
    define(&dir, "vgfx", B, r#"{"mdev_type": "vgfx-hd", "start": "auto"}"#);
    fs::remove_file(dir.path().join("mdpy").join(B)).unwrap();
    assert!(serving.ready().contains("vgfx-hd"), "a folder that is new is followed too");
    assert_eq!(width(&socket(&dir, A)), 1024);
    fs::remove_dir_all(dir.path().join("vgfx")).unwrap();
    until("its socket goes", || !socket(&dir, B).exists());

    serving.signal(Signal::TERM);
    let (status, logs) = serving.end();
    assert_eq!(status, Some(0));
    assert!(logs.contains("33333333-3333-4333-8333-333333333333: expected a definition"), "{logs}");
    assert!(
        fs::read_dir(dir.path()).unwrap().all(|entry| entry.unwrap().path().is_dir()),
        "no socket is left"
    );
}

#[test]
fn definitions_are_kept_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(output(dir.path(), &["list"]), "");
    assert_eq!(output(dir.path(), &["create", "--type", "mdpy-vga", "--uuid", A, "--define"]), "");
    let text = fs::read_to_string(dir.path().join("mdpy").join(A)).unwrap();
    let written: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(written, serde_json::json!({"mdev_type": "mdpy-vga", "start": "manual", "attrs": []}));
    let again = run(dir.path(), &["create", "--type", "vgfx-hd", "--uuid", A]);
    assert!(complaint(&again).contains("already defined"));
    for _ in 0..3 {
        output(dir.path(), &["create", "--type", "mdpy-xga"]);
    }
    assert!(complaint(&run(dir.path(), &["create", "--type", "mdpy-hd"])).contains("no room"));
    output(dir.path(), &["create", "--type", "mbochs-large"]);
    let available = |name: &str| {
        let types = output(dir.path(), &["types", "--json"]);
        let lines = types.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let line = lines.into_iter().find(|line| line["type"] == name).unwrap();
        line["available_instances"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        (&*available("mdpy-hd"), &*available("mbochs-medium"), &*available("vgfx-hd")),
        ("0", "12", "8")
    );
    output(dir.path(), &["remove", A]);
    assert_eq!(available("mdpy-hd"), "1");
    assert!(complaint(&run(dir.path(), &["remove", A])).contains("mdev-sample list"));
}
