/**
 * QEMU's monitor for programs (QMP): where it listens, and asking it to quit. A socket of QMP serves one client at a time: where
 * another one is connected (libvirt is), no greeting comes.
 */
import { createConnection } from "node:net";
import { createInterface } from "node:readline";

const ANSWER_MS = 3000;
const LINE_BYTES_MAX = 64 * 1024;

/** Members of a QEMU option: `socket,id=mon0,path=/run/a,,b`; a comma within is written twice. */
function members(text: string): ReadonlyMap<string, string> {
  const parts = text.replaceAll(",,", "\0").split(",");
  return new Map(
    parts.map((part, index) => {
      const [name = "", ...rest] = part.replaceAll("\0", ",").split("=");
      return rest.length === 0 && index === 0 ? ["", name] : [name, rest.join("=")];
    }),
  );
}

/** The paths of QMP's Unix sockets in a command line, in its order. */
export function qmpSocketsOf(words: readonly string[]): readonly string[] {
  const after = (options: readonly string[]): readonly string[] =>
    words.flatMap((word, index) => {
      const name = word.replace(/^--/, "-");
      const value = words[index + 1];
      return options.includes(name) && value !== undefined ? [value] : [];
    });
  const short = after(["-qmp", "-qmp-pretty"]).flatMap((value) => {
    const path = /^unix:([^,]*(?:,,[^,]*)*)/.exec(value)?.[1]?.replaceAll(",,", ",");
    return path === undefined || path === "" ? [] : [path];
  });
  const controls = after(["-mon"])
    .map(members)
    .filter((one) => one.get("mode") === "control")
    .map((one) => one.get("chardev") ?? one.get(""));
  const long = after(["-chardev"])
    .map(members)
    .flatMap((one) => {
      const path = one.get("path");
      return one.get("") === "socket" && path !== undefined && controls.includes(one.get("id")) ? [path] : [];
    });
  return [...short, ...long];
}

export type QmpEnd = { readonly kind: "asked" } | { readonly kind: "failed"; readonly why: string };

/** Asks QEMU to quit: it stops its vCPUs, writes its disks back and ends. `failed`: nothing was asked. */
export async function qmpQuit(path: string): Promise<QmpEnd> {
  const socket = createConnection({ path });
  return await new Promise<QmpEnd>((resolve) => {
    let stage: "greeting" | "capabilities" | "quit" = "greeting";
    let seen = 0;
    const end = (result: QmpEnd): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(result);
    };
    const timer = setTimeout(() => {
      // Once it was asked, its end may be faster than its answer.
      if (stage === "quit") end({ kind: "asked" });
      else end({ kind: "failed", why: `${path} gives no ${stage}: another client may be connected to it` });
    }, ANSWER_MS);
    socket.on("error", (error) => end({ kind: "failed", why: error.message }));
    socket.on("close", () =>
      end(stage === "quit" ? { kind: "asked" } : { kind: "failed", why: "it hung up" }),
    );
    socket.on("data", (bytes) => {
      seen += bytes.length;
      if (seen > LINE_BYTES_MAX) end({ kind: "failed", why: `${path} does not speak QMP` });
    });
    createInterface({ input: socket })
      .on("error", () => {})
      .on("line", (line) => {
        if (stage === "greeting" && line.includes('"QMP"')) {
          stage = "capabilities";
          socket.write('{"execute":"qmp_capabilities"}\n');
        } else if (stage === "capabilities" && line.includes('"return"')) {
          stage = "quit";
          socket.write('{"execute":"quit"}\n');
        } else if (line.includes('"error"'))
          end({ kind: "failed", why: `${path} answers ${line.slice(0, 200)}` });
        else if (stage === "quit" && line.includes('"return"')) end({ kind: "asked" });
      });
  });
}
