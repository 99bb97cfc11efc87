import { describe, expect, it } from "vitest";
import { PORT_WORDS, Ports } from "../../../../src/arch/x86/linux/ports.ts";

function machine() {
  const sent: number[] = [];
  const levels: number[] = [];
  const ports = new Ports(new Int32Array(PORT_WORDS), {
    transmit: (byte) => sent.push(byte),
    setLine: (level) => levels.push(level),
  });
  const out = (port: number, value: number) => ports.write(port, 1, value);
  const inb = (port: number) => ports.read(port, 1);
  return { ports, sent, levels, out, inb };
}

const DATA = 0x3f8;
const IER = 0x3f9;
const IIR = 0x3fa;
const LCR = 0x3fb;
const MCR = 0x3fc;
const LSR = 0x3fd;
const MSR = 0x3fe;

describe("the serial port", () => {
  it("sends what is written, and is always ready", () => {
    const { sent, out, inb } = machine();
    for (const byte of Buffer.from("hello")) {
      expect(inb(LSR) & 0x60).toBe(0x60);
      out(DATA, byte);
    }
    expect(Buffer.from(sent).toString()).toBe("hello");
  });

  it("keeps the divisor apart from the data", () => {
    const { sent, out, inb } = machine();
    out(LCR, 0x83);
    out(DATA, 1);
    out(IER, 2);
    expect([inb(DATA), inb(IER)]).toEqual([1, 2]);
    out(LCR, 3);
    expect([inb(DATA), inb(IER)]).toEqual([0, 0]);
    expect(sent).toEqual([]);
  });

  it("passes the tests of the driver: IER's bits, the loop of the modem lines, a FIFO", () => {
    const { out, inb } = machine();
    out(IER, 0xff);
    expect(inb(IER)).toBe(0x0f);
    out(IER, 0);
    // autoconfig(), 8250_port.c: MCR = LOOP | OUT2 | RTS must give MSR = DCD | CTS.
    out(MCR, 0x1a);
    expect(inb(MSR) & 0xf0).toBe(0x90);
    out(MCR, 0);
    out(IIR, 1);
    expect(inb(IIR)).toBe(0xc1);
  });

  it("interrupts once when the transmitter's interrupt is enabled, until IIR is read, and after each byte again", () => {
    const { levels, out, inb } = machine();
    out(MCR, 8);
    out(IER, 2);
    expect(levels).toEqual([1]);
    expect(inb(IIR)).toBe(2);
    expect(levels).toEqual([1, 0]);
    expect(inb(IIR)).toBe(1);
    out(DATA, 65);
    out(DATA, 66);
    expect(levels).toEqual([1, 0, 1]);
    out(IER, 0);
    expect(levels).toEqual([1, 0, 1, 0]);
  });

  it("does not interrupt without OUT2, nor sends in loop mode", () => {
    const { levels, sent, out } = machine();
    out(IER, 2);
    expect(levels).toEqual([]);
    out(MCR, 0x10);
    out(DATA, 65);
    expect(sent).toEqual([]);
  });
});

describe("the other ports", () => {
  it("show a host bridge at 0:0.0 and nothing else", () => {
    const { ports } = machine();
    const config = (address: number, port = 0xcfc, size = 4) => {
      ports.write(0xcf8, 4, address | 0);
      return ports.read(port, size);
    };
    expect(config(0x80000000)).toBe(0x12378086);
    expect(ports.read(0xcf8, 4)).toBe(0x80000000);
    expect(config(0x80000008, 0xcfe, 2)).toBe(0x0600);
    expect(config(0x80000004)).toBe(0);
    expect(config(0x80000800)).toBe(0xffffffff);
    expect(config(0x80010000)).toBe(0xffffffff);
    expect(config(0)).toBe(0xffffffff);
  });

  it("have no clock that is always being updated and no controller that is always full", () => {
    const { inb } = machine();
    for (const port of [0x70, 0x71, 0x60, 0x64, 0x600, 0x604]) expect(inb(port)).toBe(0);
  });

  it("remember which ACPI events are enabled", () => {
    const { ports } = machine();
    ports.write(0x602, 2, 0x20);
    expect(ports.read(0x602, 2)).toBe(0x20);
    expect(ports.read(0x600, 2)).toBe(0);
  });

  it("read as ones where there is nothing", () => {
    const { ports } = machine();
    expect([1, 2, 4].map((size) => ports.read(0x1f0, size))).toEqual([0xff, 0xffff, 0xffffffff]);
    expect(ports.write(0x1f0, 4, 0)).toBeNull();
  });

  it("turn the machine off and reset it", () => {
    const { ports } = machine();
    expect(ports.write(0x604, 2, (5 << 10) | 0x2000)).toBe("power-off");
    expect(ports.write(0x604, 2, 5 << 10)).toBeNull();
    expect(ports.write(0x604, 2, (1 << 10) | 0x2000)).toBeNull();
    expect(ports.write(0x64, 1, 0xfe)).toBe("reset");
    expect(ports.write(0x64, 1, 0x60)).toBeNull();
  });
});
