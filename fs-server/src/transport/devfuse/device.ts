/**
 * /dev/fuse: mounts it, and does everything with its descriptor except for serving requests.
 * As root by mount(2); otherwise through the set-user-id helper fusermount3, which sends the descriptor over a
 * socket (its interface: environment variable _FUSE_COMMFD). Kernel side: fs/fuse/inode.c, fs/fuse/dev.c.
 */
import { spawnSync } from "node:child_process";
import { write } from "node:fs";
import {
  files,
  MS_NODEV,
  MS_NOSUID,
  MS_RDONLY,
  mount,
  receiveDescriptor,
  socketPair,
} from "../../../../sys/src/index.ts";
import { TransportError } from "../../core/errors.ts";
import { encodeNotification, type Notifier } from "../../core/notify.ts";
import type { BackingFiles } from "../../fs/backing.ts";
import { failure } from "../../fs/errors.ts";

/** _IOR(229, 0, uint32_t) */
const FUSE_DEV_IOC_CLONE = 0x8004e500;
const FUSE_DEV_IOC_BACKING_OPEN = 0x4010e501;
const FUSE_DEV_IOC_BACKING_CLOSE = 0x4004e502;

export type DeviceMount = { readonly mountPoint: string; readonly readOnly: boolean };

/** Opens /dev/fuse and mounts it. Returns the descriptor. Throws an Error that says what to do. */
export function mountDevice(options: DeviceMount): number {
  return process.geteuid?.() === 0 ? mountAsRoot(options) : mountByHelper(options);
}

function mountAsRoot({ mountPoint, readOnly }: DeviceMount): number {
  const fd = files.openat(files.AT_FDCWD, files.pathBytes("/dev/fuse"), files.O_RDWR);
  if (fd < 0) throw new Error(`cannot open /dev/fuse: ${failure(-fd).code}; is the fuse module loaded?`);
  const flags = MS_NOSUID | MS_NODEV | (readOnly ? MS_RDONLY : 0);
  const data = `fd=${fd},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other`;
  try {
    mount({ source: "daxfault", target: mountPoint, type: "fuse.daxfault", flags, data });
  } catch (error) {
    files.close(fd);
    if ((error as NodeJS.ErrnoException).code !== "EPERM") throw error;
    throw new Error(
      `/dev/fuse cannot be mounted at ${mountPoint} (EPERM): this root may not mount. Next: run as root outside of the user namespace or container, or give it CAP_SYS_ADMIN`,
      { cause: error },
    );
  }
  return fd;
}

/** What the helper says, with what to do where it may not open the device. */
function helperText(said: string): string {
  const denied = /\/dev\/fuse.*(denied|not permitted)/i.test(said);
  return denied ? `${said}. Next: sudo chmod 0666 /dev/fuse, or serve as root` : said;
}

function mountByHelper({ mountPoint, readOnly }: DeviceMount): number {
  const [ours, theirs] = socketPair();
  const options = `fsname=daxfault,subtype=daxfault,default_permissions${readOnly ? ",ro" : ""}`;
  const result = spawnSync("fusermount3", ["-o", options, "--", mountPoint], {
    stdio: ["ignore", "ignore", "pipe", theirs],
    env: { ...process.env, _FUSE_COMMFD: "3" },
  });
  files.close(theirs);
  try {
    if (result.error !== undefined) {
      throw new Error("mounting without root needs fusermount3: install the package fuse3", {
        cause: result.error,
      });
    }
    if (result.status !== 0) throw new Error(helperText(result.stderr.toString().trim()));
    const fd = receiveDescriptor(ours);
    if (fd === null) throw new Error("fusermount3 sent no descriptor");
    return fd;
  } finally {
    files.close(ours);
  }
}

/** One more descriptor of the same connection, of which read(2) waits or never does; null where the kernel would not. */
export function cloneDevice(device: number, kind: "waits" | "never waits"): number | null {
  const flags = files.O_RDWR | (kind === "waits" ? 0 : files.O_NONBLOCK);
  const fd = files.openat(files.AT_FDCWD, files.pathBytes("/dev/fuse"), flags);
  if (fd < 0) return null;
  const source = new Uint8Array(new Uint32Array([device]).buffer);
  if (files.ioctl(fd, FUSE_DEV_IOC_CLONE, source) === 0) return fd;
  files.close(fd);
  return null;
}

/** FUSE_PASSTHROUGH's registry: needs CAP_SYS_ADMIN, else the kernel refuses and content goes by the server. */
export function deviceBackingFiles(device: number): BackingFiles {
  return {
    open: (fd) => {
      // struct fuse_backing_map: i32 fd, u32 flags, u64 padding.
      const map = new Int32Array([fd, 0, 0, 0]);
      const id = files.ioctl(device, FUSE_DEV_IOC_BACKING_OPEN, new Uint8Array(map.buffer));
      return id > 0 ? id : null;
    },
    close: (id) => {
      files.ioctl(device, FUSE_DEV_IOC_BACKING_CLOSE, new Uint8Array(new Int32Array([id]).buffer));
    },
  };
}

/**
 * Notifications to the mount. Sent from Node's pool of threads, so that neither the thread that serves nor an event
 * loop waits while the kernel takes its locks. For a thread whose event loop turns: not the one in `serveDevice`.
 */
export function deviceNotifier(device: number): Notifier {
  return {
    notify: (invalidation) =>
      new Promise((resolve, reject) => {
        write(device, encodeNotification(invalidation), (error) => {
          if (error === null) resolve("dropped");
          else if (error.code === "ENOENT") resolve("unknown");
          else reject(new TransportError(`notification to /dev/fuse: ${error.code}`, { cause: error }));
        });
      }),
  };
}
