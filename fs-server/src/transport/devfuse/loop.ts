/**
 * The request loop on a mounted /dev/fuse: one blocking read is one request, one write is one reply.
 * Occupies its thread until the mount is gone: run it in a worker or a process of its own.
 */
import { files } from "../../../../sys/src/index.ts";
import { TransportError } from "../../core/errors.ts";
import { MAX_WRITE_BYTES } from "../../core/init.ts";
import { ContiguousSink } from "../../core/reply.ts";
import type { Session } from "../../core/session.ts";
import { failure } from "../../fs/errors.ts";
import { Arrivals, type Device } from "./arrivals.ts";

/** Room for headers and names beside the largest payload (the kernel asks for max_write and a page at least). */
const BUFFER_BYTES: number = MAX_WRITE_BYTES + 16 * 1024;
const ENOENT = -failure("ENOENT").errno;
const ENODEV = -failure("ENODEV").errno;
const ECONNABORTED = -failure("ECONNABORTED").errno;
const EINTR = -failure("EINTR").errno;
const EAGAIN = -failure("EAGAIN").errno;
const EINVAL = -failure("EINVAL").errno;

/** Serves until the mount ends. Returns why it ended. */
export function serveDevice(device: Device, session: Session): string {
  const requestBytes = new Uint8Array(BUFFER_BYTES);
  const replyBytes = new Uint8Array(BUFFER_BYTES);
  const sinkTo = (fd: number): ContiguousSink =>
    new ContiguousSink(replyBytes, (message) => sent(fd, message));
  const sink = sinkTo(device.fd);
  const nowaitSink = device.nowait === null ? sink : sinkTo(device.nowait);
  const arrivals = new Arrivals(device);
  for (;;) {
    const wait = session.msUntilDue();
    if (wait !== null) {
      const readable = files.pollReadable(device.fd, Math.ceil(wait));
      session.handleDue();
      if (readable === 0) continue;
    }
    const length = arrivals.next(requestBytes);
    if (length < 0) {
      // ENOENT: the request was interrupted between queueing and reading.
      if (length === ENOENT || length === EINTR || length === EAGAIN) continue;
      session.end();
      if (length === ENODEV || length === ECONNABORTED) return "unmounted";
      return `read of /dev/fuse: ${failure(-length).code}`;
    }
    // Never on the device; the end of a socket that stands for it.
    if (length === 0) return "closed";
    const to = arrivals.from === device.fd ? sink : nowaitSink;
    const outcome = session.handle([requestBytes.subarray(0, length)], to);
    if (outcome.kind === "ended") {
      session.end();
      return outcome.reason;
    }
  }
}

function sent(fd: number, message: Uint8Array): boolean {
  const result = files.write(fd, message);
  if (result >= 0) return true;
  // ENOENT: the client was interrupted and no longer waits. EINVAL: the kernel did not like the reply.
  if (result === ENOENT || result === EINVAL) return false;
  throw new TransportError(result === ENODEV ? "unmounted" : `write to /dev/fuse: ${failure(-result).code}`);
}
