/** The lease socket under random clients: whole and broken messages, bytes, cuts, and ends at any moment. */
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { Random } from "../../src/fuzz/generate.ts";
import { LeaseBook } from "../../src/lease/lease-book.ts";
import { LEASE_LIMITS, serveLeases } from "../../src/lease/lease-server.ts";
import { FREE } from "../../src/lease/truncation-gate.ts";
import { temporaryDirectory } from "../support/directories.ts";

const SEED = Number(process.env.DAXFAULT_SEED ?? 11);
const CLIENTS = process.env.DAXFAULT_LONG ? 5000 : 300;
const FILES = 4;
const BOUND_MS = 200;
const HOLDS = 64;

const ends: (() => void)[] = [];
afterAll(() => {
  for (const end of ends) end();
});

function message(random: Random): string {
  const number = (): unknown => random.pick([1, 2, 3, 0, -1, 1.5, 2 ** 53, "1", null, {}, [], 1e300]);
  const word = (): unknown => random.pick(["1", "2", "18446744073709551616", "-1", "", 7, "9".repeat(40)]);
  const good = { hold: 1 + random.below(9), device: "1", ino: String(random.below(FILES)) };
  switch (random.below(8)) {
    case 0:
    case 1:
      return `${JSON.stringify(good)}\n`;
    case 2:
      return `${JSON.stringify({ ack: 1 + random.below(20) })}\n`;
    case 3:
      return `${JSON.stringify({ release: 1 + random.below(9) })}\n`;
    case 4:
      return `${JSON.stringify({ hold: number(), device: word(), ino: word() })}\n`;
    case 5:
      return `${JSON.stringify({ [random.pick(["ack", "release", "hold", "__proto__"])]: number() })}\n`;
    case 6:
      return random.pick(["\n", "{", "[[[[", "\0", "null\n", '{"hold":1', "\ud800", "x".repeat(70_000)]);
    default:
      return String.fromCharCode(...Array.from({ length: 1 + random.below(40) }, () => random.below(256)));
  }
}

/** One client's life. Resolves when its connection is over. */
async function live(path: string, random: Random): Promise<void> {
  const socket: Socket = connect(path);
  socket.on("error", () => {});
  if (random.below(4) > 0) socket.resume();
  const closed = new Promise<void>((done) => socket.once("close", () => done()));
  for (let i = random.below(12); i >= 0 && !socket.destroyed; i -= 1) {
    const bytes = Buffer.from(message(random), "latin1");
    const cut = random.below(bytes.length + 1);
    socket.write(bytes.subarray(0, cut));
    if (random.below(3) === 0) await new Promise((done) => setTimeout(done, random.below(3)));
    socket.write(bytes.subarray(cut));
  }
  if (random.below(2) === 0) socket.end();
  else socket.destroy();
  socket.resume();
  await Promise.race([closed, new Promise((done) => setTimeout(done, 1000))]);
  socket.destroy();
  await closed;
}

it(`${CLIENTS} random clients (seed ${SEED}) leave no lease, hold no truncation longer than the bound, and end no server`, async () => {
  const path = join(temporaryDirectory(), "leases");
  const book = new LeaseBook({ boundMs: BOUND_MS });
  const server = await serveLeases(book, path, { limits: { ...LEASE_LIMITS, holds: HOLDS } });
  ends.push(() => server.close());
  const random = new Random(SEED);
  const waits: number[] = [];
  const file = (ino: number): { device: bigint; ino: bigint } => ({ device: 1n, ino: BigInt(ino) });
  for (let started = 0; started < CLIENTS; started += 10) {
    const clients = Array.from({ length: 10 }, () => live(path, new Random(random.next())));
    const from = performance.now();
    const truncations = Array.from({ length: FILES }, async (_, ino) => {
      const ticket = await new Promise<number | typeof FREE>((resolve) => {
        const asked = book.ask(file(ino), 0n, () => resolve(asked));
        if (asked === FREE) resolve(FREE);
      });
      waits.push(performance.now() - from);
      if (ticket !== FREE) book.done(ticket, 0n);
    });
    await Promise.all([...clients, ...truncations]);
  }
  await expect
    .poll(() => Array.from({ length: FILES }, (_, ino) => book.isHeld(file(ino))))
    .not.toContain(true);
  expect(Math.max(...waits)).toBeLessThan(BOUND_MS + 1000);
  const whole = connect(path);
  ends.push(() => whole.destroy());
  const granted = new Promise<string>((done) => whole.once("data", (bytes) => done(bytes.toString())));
  whole.write('{"hold":1,"device":"1","ino":"1"}\n');
  expect(await granted).toBe('{"granted":1}\n');
}, 600_000);
