//! Of `refresh` and `viewers`.

/// Planes that come, change and lie on each other.
#[must_use]
pub fn refresh() -> Vec<Vec<u8>> {
    let plane = |kind: u8, format: u8, x: u8| vec![0, kind, 0, format, 64, 0, 48, x, 2, 0, 0x40, 0];
    let write = [vec![2, 0, 0x44, 0, 8], vec![0x11; 8]].concat();
    vec![
        [plane(0, 0, 0), vec![4], write.clone(), vec![4], vec![4]].concat(),
        [plane(0, 2, 0), plane(2, 1, 10), vec![4], plane(2, 1, 0xf0), write, vec![4]].concat(),
        [
            plane(0, 0, 0),
            vec![4],
            vec![1, 1],
            plane(0, 0, 0)[2..].to_vec(),
            vec![4, 4],
            plane(0, 6, 0),
            vec![4],
        ]
        .concat(),
        vec![0, 0, 7, 1, 0x34, 0x12, 0x34, 0x12, 40, 40, 63, 90, 0, 0, 0, 0, 0, 0, 0, 4],
    ]
}

/// Viewers of every kind, and a screen that changes.
#[must_use]
pub fn viewers() -> Vec<Vec<u8>> {
    let say = |bytes: &[u8]| [&[0, u8::try_from(bytes.len()).unwrap_or(u8::MAX)], bytes, &[1]].concat();
    let request = say(&[3, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    // Tight, ZRLE, Zlib, cursor, sizes, fences, continuous updates.
    let encodings = [7i32, 16, 6, -239, -308, -312, -313].map(i32::to_be_bytes).concat();
    let encodings = say(&[&[2, 0, 0, 7], encodings.as_slice()].concat());
    let draw = [vec![3, 0, 1, 40], vec![0x5a; 40], vec![1]].concat();
    vec![
        [vec![0, 0, 1], encodings, request.clone(), draw.clone(), vec![2, 90, 1], request.clone()].concat(),
        [vec![0, 0, 1], request.clone(), vec![4, 70, 60, 1], draw, vec![5, 20, 1, 6, 0, 1, 6, 1, 1]].concat(),
        [vec![1, 0, 0], say(b"RFB 003.003\n"), say(&[9; 16]), vec![7, 90, 1], say(&[])].concat(),
        [vec![1, 2, 0], say(b"RFB 003.008\n"), say(&[19]), say(&[0, 2]), say(&[0, 0, 1, 5])].concat(),
        [
            vec![0, 0, 1],
            say(&[251, 0, 4, 0, 3, 0, 0, 0]),
            say(&[6, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
            request,
        ]
        .concat(),
    ]
}
