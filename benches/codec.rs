//! The codec of the wire by itself: `cargo bench --bench codec`.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;
use std::io;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use packetstream::wire::{
    ChannelId, Decoder, Flags, Packet, PacketReader, PacketWriter, RequestType, Tag,
};

const STREAM_PACKETS: u32 = 1_000;

fn request(tag: u64, payload_len: usize) -> Packet {
    let payload = vec![7; payload_len];
    Packet::request(
        ChannelId::DEFAULT,
        Tag::new(tag),
        RequestType::from(3),
        Flags::NONE,
        payload,
    )
}

/// The packet with the head of a good answer, which is the shortest there is.
fn response(tag: u64, payload_len: usize) -> Option<Packet> {
    let payload = vec![7; payload_len];
    Packet::response(
        ChannelId::DEFAULT,
        Tag::new(tag),
        true,
        Flags::NONE,
        payload,
    )
    .ok()
}

/// The packets that are measured alone, with their names.
fn packets() -> Vec<(&'static str, Packet)> {
    let mut packets = Vec::new();
    for len in [16, 64 * 1024] {
        packets.push(("request", request(1_000, len)));
        packets.extend(response(1_000, len).map(|packet| ("response", packet)));
    }
    packets
}

/// Decodes a packet that is whole in its buffer; what is measured includes the payload's
/// allocation and its end.
fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for (name, packet) in packets() {
        let octets = packet.transcribe();
        group.throughput(Throughput::Bytes(packet.encoded_len()));
        let id = BenchmarkId::new(name, packet.payload().len());
        group.bench_with_input(id, &octets, |bencher, octets| {
            let mut decoder = Decoder::new();
            bencher.iter(|| decoder.decode(&mut black_box(&octets[..])));
        });
    }
    group.finish();
}

/// Encodes a packet into memory that is there already.
fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for (name, packet) in packets() {
        group.throughput(Throughput::Bytes(packet.encoded_len()));
        let id = BenchmarkId::new(name, packet.payload().len());
        group.bench_with_input(id, &packet, |bencher, packet| {
            let mut out = packet.transcribe();
            bencher.iter(|| {
                out.clear();
                let packet = black_box(packet);
                packet.encode_head(&mut out);
                out.extend_from_slice(packet.payload());
                black_box(out.len())
            });
        });
    }
    group.finish();
}

/// Reads and writes many small packets, as a connection does.
fn stream(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stream of small packets");
    group.throughput(Throughput::Elements(u64::from(STREAM_PACKETS)));
    let packets: Vec<_> = (0..STREAM_PACKETS)
        .map(|number| request(u64::from(number), 16))
        .collect();
    let octets: Vec<u8> = packets.iter().flat_map(Packet::transcribe).collect();
    group.bench_function("PacketReader", |bencher| {
        bencher.iter_batched(
            || PacketReader::new(black_box(&octets[..])),
            |reader| reader.flatten().count(),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("PacketWriter", |bencher| {
        let mut writer = PacketWriter::new(io::sink());
        bencher.iter(|| {
            for packet in black_box(&packets) {
                writer.write_packet(packet)?;
            }
            writer.flush()
        });
    });
    group.finish();
}

criterion_group!(benches, decode, encode, stream);
criterion_main!(benches);
