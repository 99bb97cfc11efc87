/** `daxfault protect` within a test: its listener is a process, the rest is here, and what it says is kept. */
import { onTestFinished } from "vitest";
import { ThisHost } from "../../src/diagnose/this-host.ts";
import type { ProtectNews } from "../../src/protect/news.ts";
import { type ProtectOptions, Protector } from "../../src/protect/protector.ts";
import { eventually } from "./folders.ts";

type Of<Type extends ProtectNews["type"]> = Extract<ProtectNews, { type: Type }>;

export type Protecting = {
  readonly news: readonly ProtectNews[];
  readonly protector: Protector;
  /** Waits for such news. */
  said<Type extends ProtectNews["type"]>(
    type: Type,
    matches?: (news: Of<Type>) => boolean,
  ): Promise<Of<Type>>;
  stop(): Promise<string>;
};

const BOUND_MS = 20_000;

/** Ready, as it says itself. */
export async function protecting(options: Partial<ProtectOptions>): Promise<Protecting> {
  const news: ProtectNews[] = [];
  const ending = new AbortController();
  const full = { pids: [], folder: null, allow: [], seal: false, ...options };
  const protector = new Protector(new ThisHost(), full, (one) => news.push(one));
  const missing = protector.missing();
  if (missing.length > 0) throw new Error(`no process ${missing.join()}`);
  const running = protector.run(ending.signal);
  let isStopped = false;
  const stop = async (): Promise<string> => {
    ending.abort();
    const { kind } = await running;
    if (!isStopped) await protector.close();
    isStopped = true;
    return kind;
  };
  onTestFinished(async () => void (await stop()));
  async function said<Type extends ProtectNews["type"]>(
    type: Type,
    matches: (news: Of<Type>) => boolean = () => true,
  ): Promise<Of<Type>> {
    const find = (): Of<Type> | undefined =>
      news.find((one): one is Of<Type> => one.type === type && matches(one as Of<Type>));
    await eventually(() => find() !== undefined, BOUND_MS);
    const found = find();
    if (found === undefined) throw new Error(`no ${type} among ${JSON.stringify(news)}`);
    return found;
  }
  await said("ready");
  return { news, protector, said, stop };
}
