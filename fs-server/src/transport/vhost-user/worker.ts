/**
 * A thread that serves a vhost-user device. Which of several does is the crew's business (devfuse/crew.ts), as on /dev/fuse; in
 * place of a device's descriptor it waits for kicks. Blocks in calls of the source; its event loop never turns.
 */
import { availableParallelism } from "node:os";
import { parentPort, workerData } from "node:worker_threads";
import {
  epollWait,
  files,
  nameThread,
  ownFileSystemState,
  signalEventfd,
} from "../../../../sys/src/index.ts";
import { offsetsOf } from "../../abi/layout.ts";
import { opcodeNamed } from "../../abi/opcodes.ts";
import { threadLog } from "../../core/log.ts";
import type { ReplySink } from "../../core/reply.ts";
import { type MessageResult, Session } from "../../core/session.ts";
import type { FileSystem } from "../../fs/filesystem.ts";
import { IdMap } from "../../fs/id-map.ts";
import { TranslatedFileSystem } from "../../fs/translated.ts";
import { PassthroughFileSystem } from "../../passthrough/passthrough.ts";
import { sharedSizes } from "../../passthrough/shared-sizes.ts";
import type { SharedTables } from "../../passthrough/tables.ts";
import { type Arrival, Crew } from "../devfuse/crew.ts";
import { WAITING } from "../devfuse/loop.ts";
import { VirtioFs } from "../virtio/virtio-fs.ts";
import { GrowthFileSystem } from "./growth-filesystem.ts";
import { GuardedOpensFileSystem } from "./guarded-opens.ts";
import { lentBy, openForWindow } from "./handed-files.ts";
import { LongFiles } from "./long-files.ts";
import type { VhostUserSource } from "./options.ts";
import { ServedQueues } from "./queues.ts";
import { type RemoteAnswers, RemoteMappings, type WindowRequest } from "./remote-mappings.ts";
import { DeviceState } from "./state.ts";

export type VhostWorkerData = {
  readonly source: VhostUserSource;
  readonly tables: SharedTables;
  readonly state: SharedArrayBuffer;
  /** Of the crew (crew.ts). */
  readonly crew: SharedArrayBuffer;
  /** Its number, from 0. */
  readonly thread: number;
  readonly epoll: number;
  readonly callFds: readonly number[];
  readonly errorFds: readonly number[];
  /** Where answers about the window come; null: there is none. */
  readonly window: RemoteAnswers | null;
};

export type VhostMessage =
  | {
      readonly type: "init";
      readonly minor: number;
      readonly clientMinor: number;
      readonly flags: readonly string[];
    }
  /** The thread has loaded its modules. */
  | { readonly type: "begun" }
  /** One more thread is needed. */
  | { readonly type: "grow" }
  | WindowRequest
  | { readonly type: "broken"; readonly queue: number; readonly reason: string };

/** The control thread has the configuration space. */
const UNUSED_TAG = "-";
const IN = offsetsOf("fuse_in_header");
/** What changes the session for all threads: no other request is served meanwhile. */
const ALONE: ReadonlySet<number> = new Set([opcodeNamed("INIT").number, opcodeNamed("DESTROY").number]);

const post = (message: VhostMessage): void => parentPort?.postMessage(message);

function openSource({ source, tables }: VhostWorkerData): PassthroughFileSystem {
  return new PassthroughFileSystem(
    source.path,
    {
      readOnly: source.readOnly,
      writebackCache: source.writebackCache,
      crossMounts: source.announceSubmounts,
      fileHandles: source.fileHandles,
      allowDirectIo: source.allowDirectIo,
    },
    tables,
  );
}

function mappingsOf(
  { window, thread }: VhostWorkerData,
  passthrough: PassthroughFileSystem,
): RemoteMappings | null {
  if (window === null) return null;
  const lender = window.longFiles === null ? null : new LongFiles(window.longFiles);
  return new RemoteMappings(window, thread, {
    post,
    open: (node) => openForWindow(passthrough, node),
    lend: (source) => ({ source, lent: lentBy(lender, source.fd) }),
    close: ({ fd }) => void files.close(fd),
  });
}

/** What the session sees of the source. */
function seenOf(
  { source: { translateUid, translateGid } }: VhostWorkerData,
  passthrough: PassthroughFileSystem,
  dax: RemoteMappings | null,
): FileSystem {
  const opened = dax?.opensByGuard === true ? new GuardedOpensFileSystem(passthrough, dax) : passthrough;
  const grown = dax === null ? opened : new GrowthFileSystem(opened, dax);
  return translateUid.length + translateGid.length === 0
    ? grown
    : new TranslatedFileSystem(grown, { uids: IdMap.of(translateUid), gids: IdMap.of(translateGid) });
}

class Serving {
  readonly #data: VhostWorkerData;
  readonly #state: DeviceState;
  readonly #crew: Crew;
  readonly #session: Session;
  readonly #passthrough: PassthroughFileSystem;
  readonly #device: VirtioFs;
  readonly #queues: ServedQueues;
  /** What was agreed on, as of this count. */
  #agreed = 0;
  #wasSlept = false;
  #isServing = false;

  constructor(data: VhostWorkerData) {
    this.#data = data;
    this.#state = new DeviceState(data.state);
    this.#crew = new Crew(data.crew, data.thread, {
      cpus: availableParallelism(),
      grow: () => post({ type: "grow" }),
    });
    this.#passthrough = openSource(data);
    const dax = mappingsOf(data, this.#passthrough);
    this.#session = this.#newSession(seenOf(data, this.#passthrough, dax), dax);
    const session = {
      handle: (spans: readonly Uint8Array[], sink: ReplySink) => this.#handle(spans, sink),
      refuse: this.#session.refuse.bind(this.#session),
      msUntilDue: () => this.#session.msUntilDue(),
      handleDue: () => this.#session.handleDue(),
      end: () => this.#session.end(),
    };
    this.#device = new VirtioFs({ session, tag: data.source.tag ?? UNUSED_TAG });
    this.#queues = new ServedQueues(this.#state, {
      interrupt: (queue) => void signalEventfd(data.callFds[queue] ?? -1),
      broken: (queue, reason) => {
        signalEventfd(data.errorFds[queue] ?? -1);
        post({ type: "broken", queue, reason });
      },
    });
  }

  #newSession(fs: FileSystem, dax: RemoteMappings | null): Session {
    const { source, tables } = this.#data;
    return new Session({
      fs,
      sizes: sharedSizes(tables),
      writebackCache: source.writebackCache,
      posixAcl: source.posixAcl ?? this.#passthrough.hasAccessLists,
      keepCache: source.keepCache,
      directIo: source.directIo,
      announceSubmounts: source.announceSubmounts,
      flushIsNothing: this.#passthrough.flushIsNothing,
      // A guest that was reset does not say so.
      initAgain: "begins anew",
      validity: { entryMs: source.entryTimeoutMs, attributesMs: source.attributeTimeoutMs },
      ...(dax === null ? {} : { dax }),
      ...(source.debug ? { log: threadLog } : {}),
      onInit: ({ minor, clientMinor, flagNames: flags }) => post({ type: "init", minor, clientMinor, flags }),
      onDefect: (message, error) => threadLog(`daxfault serve: defect: ${message}: ${String(error)}`),
    });
  }

  /** Until the front-end has left. */
  run(): void {
    this.#crew.begin();
    for (;;) {
      if (this.#state.isStopped) return;
      if (!this.#serveOne()) this.#await();
    }
  }

  #serveOne(): boolean {
    const { gate } = this.#state;
    gate.enter();
    try {
      this.#adopt();
      const request = this.#queues.next();
      if (request === null) return false;
      this.#device.serve(0, request);
      return true;
    } finally {
      this.#passthrough.letGo();
      gate.leave();
      if (this.#isServing) this.#crew.served();
      this.#isServing = false;
    }
  }

  /** Sleeps until there may be something to do. */
  #await(): void {
    const dueMs = this.#session.msUntilDue();
    if (dueMs === null && this.#crew.rest()) return;
    this.#wasSlept = true;
    epollWait(this.#data.epoll, dueMs === null ? -1 : Math.ceil(dueMs));
    if (dueMs === null) return;
    const { gate } = this.#state;
    gate.enter();
    try {
      this.#adopt();
      this.#session.handleDue();
    } finally {
      this.#passthrough.letGo();
      gate.leave();
    }
  }

  /** What another thread has agreed on. */
  #adopt(): void {
    if (this.#state.agreed === this.#agreed) return;
    this.#agreed = this.#state.agreed;
    this.#session.adopt(this.#state.agreement);
  }

  #handle(spans: readonly Uint8Array[], sink: ReplySink): MessageResult {
    const [head] = spans;
    if (head === undefined || head.length < IN.unique + 8) return this.#session.handle(spans, sink);
    const view = new DataView(head.buffer, head.byteOffset, head.length);
    const opcode = view.getUint32(IN.opcode, true);
    this.#isServing = true;
    this.#crew.serving(view.getInt32(IN.unique, true), view.getInt32(IN.unique + 4, true), this.#arrival());
    if (WAITING.has(opcode)) this.#crew.willBlock();
    return ALONE.has(opcode) ? this.#handleAlone(spans, sink) : this.#session.handle(spans, sink);
  }

  /**
   * A request that was there before it was looked for says nothing: a driver that was woken by the last answer, on this very
   * CPU, has sent its next one before this thread went on. Another one behind it says that two threads can serve.
   */
  #arrival(): Arrival {
    const wasSlept = this.#wasSlept;
    this.#wasSlept = false;
    return !wasSlept && this.#queues.hasMore ? "queued" : "waited for";
  }

  /** The sink's chain may be revoked meanwhile; then it writes nothing. */
  #handleAlone(spans: readonly Uint8Array[], sink: ReplySink): MessageResult {
    const { gate } = this.#state;
    gate.leave();
    try {
      return gate.alone(() => {
        this.#adopt();
        const result = this.#session.handle(spans, sink);
        this.#state.agree(this.#session.agreement);
        this.#agreed = this.#state.agreed;
        return result;
      });
    } finally {
      gate.enter();
    }
  }
}

function main(data: VhostWorkerData): void {
  nameThread(`daxfault-serve${data.thread}`);
  // The umask is a thread's own from here on.
  ownFileSystemState();
  const serving = new Serving(data);
  post({ type: "begun" });
  serving.run();
}

main(workerData as VhostWorkerData);
