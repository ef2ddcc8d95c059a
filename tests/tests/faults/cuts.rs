//! A VMM or a console that dies at any point of its conversation, with whatever it has sent or not read yet.

use std::env;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use vfio_gfx::abi::{Interface, PlaneKind};
use vfio_gfx::plane::Source;
use vfio_gfx::vfio_user::{Role, Version};
use vfio_gfx_tests::process::Running;
use vfio_gfx_tests::programs::Server;
use vfio_gfx_tests::relay::send;
use vfio_gfx_tests::usage::{Usage, falls_asleep};
use vfio_gfx_tests::vmm::{Vmm, console, guest_memory, look, whole_life};

/// What cloud-hypervisor says when it starts.
const RECORDING: &str = include_str!("../../../mdev-sample/tests/data/cloud-hypervisor-startup.txt");

/// Tells a process of this program which message it is to die in: `socket role message bytes`.
const DOOMED: &str = "VFIO_GFX_DOOMED";
const SENT: &str = "everything is sent";

/// Pages that the server's heap may grow by: buffers are larger after the first VMM than before.
const SLACK_KIB: u64 = 1024;
const PATIENCE: Duration = Duration::from_secs(60);

/// A message with the descriptors that go with it.
struct Message {
    bytes: Vec<u8>,
    descriptors: fn() -> Vec<OwnedFd>,
}

fn none() -> Vec<OwnedFd> {
    Vec::new()
}

fn memory() -> Vec<OwnedFd> {
    vec![guest_memory()]
}

fn eventfds() -> Vec<OwnedFd> {
    (0..5).map(|_| eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()).collect()
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| u32::try_from(*word).unwrap().to_ne_bytes()).collect()
}

fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_ne_bytes()).collect()
}

fn message(command: u64, payload: &[u8], descriptors: fn() -> Vec<OwnedFd>) -> Message {
    // Id and command are half words; the id is always the same, as nobody minds.
    let header = words(&[command << 16, 16 + payload.len() as u64, 0, 0]);
    Message { bytes: [&header, payload].concat(), descriptors }
}

fn number(word: &str) -> u64 {
    u64::from_str_radix(word, 16).unwrap()
}

/// A VMM's start, as it was recorded.
fn vmm_script() -> Vec<Message> {
    let lines = RECORDING.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut script = Vec::new();
    for line in lines {
        let line = line.split(" > ").next().unwrap();
        let parts: Vec<&str> = line.split(' ').collect();
        script.push(match parts[..] {
            ["version", _, _, json] => message(1, &[&[0, 0, 1, 0], json.as_bytes(), &[0]].concat(), none),
            ["info", argsz] => message(4, &words(&[number(argsz), 0, 0, 0]), none),
            ["region", index, argsz] => {
                message(5, &words(&[number(argsz), 0, number(index), 0, 0, 0, 0, 0]), none)
            }
            ["irq", index] => message(7, &words(&[16, 0, number(index), 0]), none),
            ["dma", argsz, flags, offset, address, _] => {
                let place = longs(&[number(offset), number(address), 0x10_0000]);
                message(2, &[words(&[number(argsz), number(flags)]), place].concat(), memory)
            }
            ["read", region, offset, count] => message(
                9,
                &[longs(&[number(offset)]), words(&[number(region), number(count)])].concat(),
                none,
            ),
            ["write", region, offset, data] => {
                let bytes: Vec<u8> = data
                    .as_bytes()
                    .chunks(2)
                    .map(|hex| u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap())
                    .collect();
                let head = [longs(&[number(offset)]), words(&[number(region), bytes.len() as u64])].concat();
                message(10, &[head, bytes].concat(), none)
            }
            _ => panic!("{line} in the recording"),
        });
    }
    assert_eq!(script.len(), 40);
    script
}

/// Everything that a console asks; `buffer` is the number of the buffer that the primary plane is in.
fn console_script(buffer: u32) -> Vec<Message> {
    let mut version = Vec::new();
    Version::proposal(Role::Console).encode(false, &mut version);
    let query = |flags| message(0x3b72, &words(&[&[64, flags][..], &[0; 14]].concat()), none);
    let display_irq = vfio_gfx::device::DISPLAY_IRQ.into();
    vec![
        message(1, &version, none),
        message(4, &words(&[16, 0, 0, 0]), none),
        // Probes, then queries: VFIO_GFX_PLANE_TYPE_PROBE, _DMABUF, _REGION.
        query(1 | 4),
        query(1 | 2),
        query(4),
        query(2),
        message(5, &words(&[32, 0, 0, 0, 0, 0, 0, 0]), none),
        message(0x3b73, &words(&[buffer.into(), 0]), none),
        message(7, &words(&[256, 0, display_irq, 0]), none),
        message(8, &words(&[20, 0x24, display_irq, 0, 5]), eventfds),
        message(9, &[longs(&[0]), words(&[9, 16])].concat(), none),
        query(4),
    ]
}

/// A server with a mode set, and the script of a console that would see it.
fn stage() -> (Server, Vec<Message>) {
    let server = Server::start_with("vgfx-hd", &["--interfaces", "both"]);
    let mut vmm = Vmm::attach(server.socket()).unwrap();
    vmm.mode(640, 480).unwrap();
    let mut display = console(server.socket()).unwrap();
    let plane = display.backend().query(Interface::Dmabuf, PlaneKind::Primary).unwrap().unwrap();
    let Source::Buffer { id, .. } = plane.source else { panic!("no buffer: {plane:?}") };
    (server, console_script(id))
}

fn read_reply(stream: &mut UnixStream) {
    let mut header = [0; 16];
    stream.read_exact(&mut header).unwrap();
    let size = u32::from_ne_bytes(header[4..8].try_into().unwrap()) as usize;
    stream.read_exact(&mut vec![0; size - 16]).unwrap();
}

/// Says everything up to `bytes` of one message.
fn say(socket: &Path, script: &[Message], cut: usize, bytes: usize, reads: bool) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    for message in &script[..cut] {
        assert!(send(&stream, &message.bytes, &(message.descriptors)()), "the server hung up");
        if reads {
            read_reply(&mut stream);
        }
    }
    let Message { bytes: all, descriptors } = &script[cut];
    assert!(send(&stream, &all[..bytes], &descriptors()), "the server hung up");
    stream
}

/// Where a message is cut: before, in its header, behind its header, in its payload, and not at all.
fn places(message: &Message) -> Vec<usize> {
    let len = message.bytes.len();
    let mut places = vec![0, 8, 16, 16 + (len - 16) / 2, len - 1, len];
    places.dedup();
    places
}

/// Cuts a conversation everywhere.
fn cut_everywhere(server: &Server, script: &[Message]) {
    let mut bystander = console(server.socket()).unwrap();
    let pid = server.process.id();
    whole_life(server.socket()).unwrap();
    falls_asleep(pid, "warm");
    let before = Usage::of(pid);
    let mut cuts = 0;
    for cut in 0..script.len() {
        for bytes in places(&script[cut]) {
            for reads in [true, false] {
                drop(say(server.socket(), script, cut, bytes, reads));
                before.is_back(pid, SLACK_KIB, &format!("after a death in byte {bytes} of message {cut}"));
                cuts += 1;
            }
        }
        assert!(look(&mut bystander).is_ok(), "the other console goes on");
        assert_eq!(whole_life(server.socket()).unwrap(), Some((640, 480)), "the next VMM is served");
    }
    before.is_back(pid, SLACK_KIB, "at the end");
    falls_asleep(pid, "at the end");
    println!("{cuts} deaths in {} messages", script.len());
}

#[test]
fn a_vmm_may_die_at_any_point_of_its_start() {
    let (server, _) = stage();
    cut_everywhere(&server, &vmm_script());
}

#[test]
fn a_console_may_die_at_any_point() {
    let (server, script) = stage();
    cut_everywhere(&server, &script);
}

/// The other process: says its part, says so, and waits for its death.
#[test]
fn doomed() {
    let Some(orders) = env::var(DOOMED).ok() else { return };
    let orders: Vec<&str> = orders.split(' ').collect();
    let [socket, buffer, cut, bytes] = orders[..] else { panic!("{orders:?}") };
    let script = match buffer.parse::<u32>().unwrap() {
        0 => vmm_script(),
        buffer => console_script(buffer),
    };
    let _stream = say(Path::new(socket), &script, cut.parse().unwrap(), bytes.parse().unwrap(), true);
    println!("{SENT}");
    std::thread::sleep(PATIENCE);
}

/// `kill -9` itself, of a real process, in the middle of each message.
#[test]
fn killed_processes_leave_nothing() {
    let (server, console_script) = stage();
    let mut display = console(server.socket()).unwrap();
    let plane = display.backend().query(Interface::Dmabuf, PlaneKind::Primary).unwrap().unwrap();
    let Source::Buffer { id, .. } = plane.source else { panic!("no buffer: {plane:?}") };
    let pid = server.process.id();
    whole_life(server.socket()).unwrap();
    falls_asleep(pid, "warm");
    let before = Usage::of(pid);
    for (script, buffer) in [(vmm_script(), 0), (console_script, id)] {
        for (cut, message) in script.iter().enumerate() {
            let bytes = message.bytes.len() / 2;
            let mut command = Command::new(env::current_exe().unwrap());
            command.args(["--exact", "cuts::doomed", "--nocapture"]);
            command.env(DOOMED, format!("{} {buffer} {cut} {bytes}", server.socket().display()));
            let mut doomed = Running::start("a client", &command);
            doomed.expect_line(SENT, PATIENCE);
            doomed.crash();
            before.is_back(pid, SLACK_KIB, &format!("after kill -9 in message {cut}"));
        }
        assert_eq!(whole_life(server.socket()).unwrap(), Some((640, 480)));
    }
}
