/** Bounded waits. */

/** Resolves when `promise` has settled or after `boundMs`, whichever is first: true if it was the promise. */
export async function within(promise: Promise<unknown>, boundMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const bound = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), boundMs);
  });
  const settled = promise.then(
    () => true,
    () => true,
  );
  const inTime = await Promise.race([settled, bound]);
  clearTimeout(timer);
  return inTime;
}
