/** The inner end of a VM's channel: the virtio-serial port, for the program that runs inside. */
import { openSync, readdirSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { CHANNEL_PORT } from "./devices.ts";
import { encodeFrame } from "./frames.ts";

const PORTS = "/sys/class/virtio-ports";

/** The port's device, by the name that QEMU gave it. */
export function openPort(): number {
  const port = readdirSync(PORTS).find(
    (name) => readFileSync(join(PORTS, name, "name"), "utf8").trim() === CHANNEL_PORT,
  );
  if (port === undefined) throw new Error(`${PORTS} has no port ${CHANNEL_PORT}`);
  return openSync(join("/dev", port), "r+");
}

/** Returns when the whole message is in the port. */
export function sendFrame(port: number, message: object): void {
  const bytes = encodeFrame(message);
  for (let done = 0; done < bytes.length; ) done += writeSync(port, bytes, done);
}
