/**
 * The thread of the main socket: accepts a front-end, handles its messages until it leaves, and accepts the next one, if that is
 * wanted. A thread of its own, since QEMU waits for answers here while it has not answered on the other channel yet.
 */
import { parentPort, workerData } from "node:worker_threads";
import {
  acceptConnection,
  epollAccepts,
  epollAdd,
  epollRemove,
  errnoName,
  files,
  nameThread,
  peerProcess,
} from "../../../../sys/src/index.ts";
import { threadLog } from "../../core/log.ts";
import { Connection, ConnectionEnd } from "./connection.ts";
import { Control, type ControlOptions, type Message } from "./control.ts";
import { LentFiles } from "./lent-files.ts";
import { GuestRegions } from "./memory.ts";
import { ProtocolFault } from "./protocol.ts";
import { DeviceState } from "./state.ts";

export type ControlThreadData = {
  /** A listening socket, or a connected one. */
  readonly socket: number;
  readonly isConnected: boolean;
  readonly state: SharedArrayBuffer;
  readonly lent: SharedArrayBuffer;
  /** null: the VMM's own. */
  readonly config: Uint8Array | null;
  readonly sharedMemory: readonly bigint[];
  readonly epoll: number;
  readonly wakeFd: number;
  /** A word that the main thread counts up when it has put away what belonged to a front-end that left. */
  readonly clean: SharedArrayBuffer;
};

export type ControlMessage =
  | {
      readonly type: "front-end";
      /** 0: it cannot be seen from here. */
      readonly pid: number;
      readonly socket: number;
      readonly callFds: readonly number[];
      readonly errorFds: readonly number[];
    }
  | { readonly type: "channel"; readonly fd: number }
  /** A thread is in a call of the source, and memory or a ring is to be taken away. */
  | { readonly type: "hurry" }
  | { readonly type: "front-end-gone"; readonly reason: string; readonly isFault: boolean }
  | { readonly type: "socket-failed"; readonly reason: string };

/** How long a serving thread may keep what the front-end wants back; it is interrupted meanwhile. */
const PATIENCE_MS = 10_000;
const HURRY_MS = 100;

const log = (line: string): void => threadLog(`daxfault serve: ${line}`);

const post = (message: ControlMessage): void => parentPort?.postMessage(message);

function alone<T>(state: DeviceState, work: () => T): T {
  const deadlineMs = performance.now() + PATIENCE_MS;
  return state.gate.alone(work, HURRY_MS, () => {
    post({ type: "hurry" });
    if (performance.now() > deadlineMs) {
      throw new ProtocolFault(
        `a request has been in a call of the source for ${PATIENCE_MS} ms: its memory cannot be given back`,
      );
    }
  });
}

/** Until the front-end leaves. False: who connected said nothing, as one that only looks whether somebody listens. */
function serveFrontEnd(socket: number, data: ControlThreadData, state: DeviceState): boolean {
  const connection = new Connection(socket);
  const first = firstMessage(connection);
  if (first === null) {
    files.close(socket);
    return false;
  }
  const lent = new LentFiles(data.lent);
  const { epoll, wakeFd, config, sharedMemory } = data;
  const regions = new GuestRegions((fd) => lent.has(fd));
  const options: ControlOptions = {
    state,
    regions,
    config,
    sharedMemory,
    wakeFd,
    kicks: {
      add: (fd, queue) => epollAdd(epoll, fd, queue),
      remove: (fd) => epollRemove(epoll, fd),
      accepts: (fd) => epollAccepts(epoll, fd),
    },
    alone: (work) => alone(state, work),
    onChannel: (fd) => post({ type: "channel", fd }),
    log,
  };
  const control = new Control(options);
  const { callFds, errorFds } = control;
  post({ type: "front-end", pid: peerProcess(socket), socket, callFds, errorFds });
  const end = talk(connection, control, first);
  state.isStopped = true;
  const count = new Int32Array(data.clean);
  const before = Atomics.load(count, 0);
  post({ type: "front-end-gone", ...end });
  // The main thread ends the serving threads: nothing looks at the guest's memory any more.
  Atomics.wait(count, 0, before);
  control.close();
  files.close(socket);
  state.isStopped = false;
  Atomics.add(count, 0, 1);
  Atomics.notify(count, 0);
  return true;
}

/** null: none came. */
function firstMessage(connection: Connection): Message | null {
  try {
    return connection.receive();
  } catch (error) {
    if (error instanceof ConnectionEnd) return null;
    if (!(error instanceof ProtocolFault)) throw error;
    log(`refused a connection: ${error.message}`);
    return null;
  }
}

type End = { readonly reason: string; readonly isFault: boolean };

function talk(connection: Connection, control: Control, first: Message): End {
  for (let pending: Message | null = first; ; pending = null) {
    try {
      const message = pending ?? connection.receive();
      const reply = control.handle(message);
      if (reply !== null) connection.reply(message.request, reply);
    } catch (error) {
      if (error instanceof ConnectionEnd) return { reason: error.message, isFault: false };
      if (error instanceof ProtocolFault) return { reason: error.message, isFault: true };
      throw error;
    }
  }
}

function main(data: ControlThreadData): void {
  nameThread("daxfault-vhost");
  const state = new DeviceState(data.state);
  if (data.isConnected) {
    if (!serveFrontEnd(data.socket, data, state)) {
      post({ type: "socket-failed", reason: "the front-end has left without a word" });
    }
    return;
  }
  for (;;) {
    const socket = acceptConnection(data.socket);
    if (socket < 0) {
      post({
        type: "socket-failed",
        reason: `no front-end can connect any more: accept: ${errnoName(-socket)}`,
      });
      return;
    }
    serveFrontEnd(socket, data, state);
  }
}

main(workerData as ControlThreadData);
