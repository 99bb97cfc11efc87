/** Content: reading, writing, appending, holes, copies. */
import {
  appendFileSync,
  closeSync,
  fstatSync,
  openSync,
  readFileSync,
  statSync,
  truncateSync,
  writeSync,
} from "node:fs";
import { files, mapAnonymous } from "../../../../sys/src/index.ts";
import { named, open, tried, withOpen } from "../calls.ts";
import { type Cases, made, size } from "./case.ts";

const text = (name: string): string => readFileSync(name, "utf8");
const bytes = (content: string): Uint8Array => Buffer.from(content);
const append = files.O_WRONLY | files.O_APPEND;

function read(fd: number, offset: bigint, length: number): unknown {
  const into = Buffer.alloc(length);
  const got = files.pread(fd, into, offset);
  return got < 0 ? named(got) : into.subarray(0, got).toString("latin1");
}

export const appending: Cases = {
  "O_APPEND appends wherever it is aimed": ({ at }) => {
    withOpen(made(at("log"), "0123456789"), append, (fd) => files.pwrite(fd, bytes("X"), 2n));
    return text(at("log"));
  },
  "O_APPEND appends, large writes too": ({ at }) => {
    const fd = openSync(at("log"), "a");
    for (let i = 0; i < 5; i += 1) writeSync(fd, Buffer.alloc(200_000, String(i)), 0, 200_000, 0);
    closeSync(fd);
    const content = readFileSync(at("log"));
    return [content.length, [0, 1, 2, 3, 4].map((i) => content[i * 200_000 + 17])];
  },
  "O_APPEND taken away after the open": ({ at }) => {
    withOpen(made(at("log"), "0123456789"), append, (fd) => {
      files.setStatusFlags(fd, 0);
      files.pwrite(fd, bytes("X"), 2n);
    });
    return text(at("log"));
  },
  "O_APPEND set after the open": ({ at }) => {
    withOpen(made(at("log"), "0123456789"), files.O_WRONLY, (fd) => {
      files.setStatusFlags(fd, files.O_APPEND);
      files.write(fd, bytes("X"));
    });
    return text(at("log"));
  },
  "O_APPEND taken away, large writes": ({ at }) => {
    withOpen(made(at("log"), Buffer.alloc(300_000, "0")), append, (fd) => {
      files.setStatusFlags(fd, 0);
      for (const offset of [0n, 131_072n]) files.pwrite(fd, Buffer.alloc(131_072, "X"), offset);
    });
    const content = text(at("log"));
    return [content.length, content.indexOf("X"), content.lastIndexOf("X")];
  },
  "RWF_APPEND appends once": ({ at }) => {
    withOpen(made(at("log"), "0123456789"), files.O_WRONLY, (fd) => {
      files.pwritev2(fd, bytes("X"), 2n, files.RWF_APPEND);
      files.pwritev2(fd, bytes("Y"), 2n, 0);
    });
    return text(at("log"));
  },
  "RWF_NOAPPEND writes where it is aimed": ({ at }) => {
    const result = withOpen(made(at("log"), "0123456789"), append, (fd) => [
      named(files.pwritev2(fd, bytes("X"), 2n, files.RWF_NOAPPEND)),
      named(files.pwritev2(fd, bytes("Y"), 2n, 0)),
    ]);
    return [result, text(at("log"))];
  },
  "two that append lose nothing": ({ at }) => {
    const [one, two] = [openSync(at("log"), "a"), openSync(at("log"), "a")];
    for (let i = 0; i < 10; i += 1) for (const fd of [one, two]) writeSync(fd, fd === one ? "1" : "2");
    for (const fd of [one, two]) closeSync(fd);
    return text(at("log"));
  },
  "the host's appended bytes are kept": ({ at, host }) => {
    const fd = openSync(at("log"), "a");
    writeSync(fd, "client ");
    appendFileSync(host("log"), "host ");
    writeSync(fd, "client again");
    closeSync(fd);
    return text(host("log"));
  },
  "the host's large appended bytes are kept": ({ at, host }) => {
    const fd = openSync(at("log"), "a");
    writeSync(fd, Buffer.alloc(100_000, "c"));
    appendFileSync(host("log"), Buffer.alloc(100_000, "h"));
    writeSync(fd, Buffer.alloc(100_000, "C"));
    closeSync(fd);
    return readFileSync(host("log")).length;
  },
  "O_SYNC and O_DSYNC write": ({ at }) => {
    for (const flag of [files.O_SYNC, files.O_DSYNC]) {
      withOpen(at(`file-${flag}`), files.O_CREAT | files.O_WRONLY | flag, (fd) =>
        files.pwrite(fd, bytes("synced"), 3n),
      );
    }
    return [files.O_SYNC, files.O_DSYNC].map((flag) => text(at(`file-${flag}`)));
  },
};

export const content: Cases = {
  "a write behind the end leaves zeros": ({ at }) => {
    withOpen(at("file"), files.O_CREAT | files.O_RDWR, (fd) => files.pwrite(fd, bytes("end"), 10n));
    return text(at("file"));
  },
  "truncation: shorter, longer with zeros, of a folder, negative": ({ at }) => {
    made(at("file"), "0123456789");
    truncateSync(at("file"), 3);
    truncateSync(at("file"), 6);
    return [
      text(at("file")),
      named(files.truncate(files.pathBytes(at(".")), 0n)),
      named(files.truncate(files.pathBytes(at("file")), -1n)),
      withOpen(at("file"), files.O_RDONLY, (fd) => named(files.ftruncate(fd, 0n))),
    ];
  },
  "reads end where the file does": ({ at }) =>
    withOpen(made(at("file"), "0123456789"), files.O_RDONLY, (fd) => [
      read(fd, 8n, 10),
      read(fd, 10n, 10),
      read(fd, 2n ** 40n, 10),
      read(fd, -1n, 10),
    ]),
  "descriptors keep to their access mode": ({ at }) => {
    made(at("file"), "content");
    return [
      withOpen(at("file"), files.O_RDONLY, (fd) => named(files.pwrite(fd, bytes("x"), 0n))),
      withOpen(at("file"), files.O_WRONLY, (fd) => read(fd, 0n, 1)),
    ];
  },
  "what one writes the other reads": ({ at, host }) => {
    const [one, two] = [openSync(at("file"), "w+"), openSync(at("file"), "r")];
    writeSync(one, "written");
    const seen = [read(two, 0n, 20), fstatSync(two).size];
    for (const fd of [one, two]) closeSync(fd);
    return [seen, text(host("file"))];
  },
  "O_DIRECT reads and writes": ({ at }) => {
    const { bytes: memory, free } = mapAnonymous(16_384);
    const fd = open(at("direct"), files.O_RDWR | files.O_CREAT | files.O_DIRECT);
    memory.fill(7);
    const written = files.pwrite(fd, memory, 4096n);
    memory.fill(0);
    const got = files.pread(fd, memory, 0n);
    const seen = [written, got, memory[0], memory[4096], files.pread(fd, memory.subarray(0, 4096), 20_480n)];
    closeSync(fd);
    free();
    return seen;
  },
  "copy_file_range copies within and between": ({ at }) => {
    made(at("from"), "0123456789");
    return withOpen(at("from"), files.O_RDWR, (from) =>
      withOpen(at("to"), files.O_CREAT | files.O_RDWR, (to) => [
        named(files.copyFileRange({ fd: from, offset: 2n }, { fd: to, offset: 5n }, 4n)),
        named(files.copyFileRange({ fd: from, offset: 0n }, { fd: from, offset: 8n }, 4n)),
        named(files.copyFileRange({ fd: from, offset: 0n }, { fd: from, offset: 2n }, 4n)),
        named(files.copyFileRange({ fd: from, offset: 100n }, { fd: to, offset: 0n }, 4n)),
        text(at("from")),
        text(at("to")),
      ]),
    );
  },
  "copy_file_range to the end of a large file": ({ at }) => {
    made(at("from"), Buffer.alloc(3_000_000, "abc"));
    return withOpen(at("from"), files.O_RDONLY, (from) =>
      withOpen(at("to"), files.O_CREAT | files.O_RDWR, (to) => [
        named(files.copyFileRange({ fd: from, offset: 0n }, { fd: to, offset: 0n }, 10_000_000n)),
        size(at("to")),
      ]),
    );
  },
  "fallocate: longer, kept size, holes, zeros": ({ at }) =>
    withOpen(made(at("file"), Buffer.alloc(20_000, "x")), files.O_RDWR, (fd) => {
      const results = [
        files.fallocate(fd, 0, 10_000n, 20_000n),
        files.fallocate(fd, files.FALLOC_FL_KEEP_SIZE, 0n, 100_000n),
        files.fallocate(fd, files.FALLOC_FL_PUNCH_HOLE | files.FALLOC_FL_KEEP_SIZE, 4096n, 4096n),
        files.fallocate(fd, files.FALLOC_FL_ZERO_RANGE, 12_288n, 4096n),
        files.fallocate(fd, files.FALLOC_FL_PUNCH_HOLE, 0n, 4096n),
        files.fallocate(fd, 0, 0n, 0n),
      ].map(named);
      const all = readFileSync(at("file"));
      return [results, all.length, [4095, 4096, 8191, 8192, 12_288, 16_384, 29_999].map((at) => all[at])];
    }),
  "holes are where they were left": ({ at }) =>
    withOpen(at("sparse"), files.O_CREAT | files.O_RDWR, (fd) => {
      files.pwrite(fd, bytes("data"), 1_048_576n);
      const found = [
        files.lseek(fd, 0n, files.SEEK_DATA),
        files.lseek(fd, 1_048_576n, files.SEEK_HOLE),
        files.lseek(fd, 2_097_152n, files.SEEK_DATA),
      ];
      return [found, statSync(at("sparse")).size];
    }),
  "data that was just written is data": ({ at }) =>
    withOpen(at("sparse"), files.O_CREAT | files.O_RDWR, (fd) => {
      files.pwrite(fd, bytes("data"), 1_048_576n);
      const found = files.lseek(fd, 1_048_576n, files.SEEK_DATA);
      const hole = files.lseek(fd, 1_048_576n, files.SEEK_HOLE);
      return [named(found), hole > 1_048_576n];
    }),
  "a sparse copy by data and holes is whole": ({ at }) =>
    withOpen(at("sparse"), files.O_CREAT | files.O_RDWR, (fd) => {
      for (const offset of [0n, 100_000n, 1_000_000n]) files.pwrite(fd, bytes("data"), offset);
      const copy = Buffer.alloc(1_000_004);
      for (let from = files.lseek(fd, 0n, files.SEEK_DATA); from >= 0n; ) {
        const to = files.lseek(fd, from, files.SEEK_HOLE);
        files.pread(fd, copy.subarray(Number(from), Number(to)), from);
        from = files.lseek(fd, to, files.SEEK_DATA);
      }
      return copy.equals(readFileSync(at("sparse")));
    }),
  "a write of nothing changes nothing": ({ at }) =>
    withOpen(made(at("file"), "content"), files.O_RDWR, (fd) => {
      const before = fstatSync(fd, { bigint: true }).mtimeNs;
      return [
        named(files.pwrite(fd, new Uint8Array(0), 100n)),
        fstatSync(fd, { bigint: true }).mtimeNs === before,
        size(at("file")),
      ];
    }),
  "the host's truncation is seen by the next read": ({ at, host }) => {
    made(at("file"), "0123456789");
    return withOpen(at("file"), files.O_RDONLY, (fd) => {
      truncateSync(host("file"), 4);
      return tried(() => read(fd, 8n, 4));
    });
  },
};
