// Tells the service worker what to keep for the time without a network.

import type { Runtime } from "./runtime";

/** To be called once all is loaded; does nothing where a browser has no service workers (private windows of some). */
export async function keepForOffline(runtimes: Runtime[]): Promise<void> {
  if (!("serviceWorker" in navigator)) return;
  await navigator.serviceWorker.register("/sw.js");
  const { active } = await navigator.serviceWorker.ready;
  const byPage = performance.getEntriesByType("resource").map(({ name }) => name);
  const byWorkers = await Promise.all(runtimes.map((runtime) => runtime.fetched()));
  const addresses = [location.origin + location.pathname, ...byPage, ...byWorkers.flat().map(({ url }) => url)].filter(
    (address) => address.startsWith(location.origin) && !/\/api\/(status|serving|edge)|\/sw\.js$/.test(address),
  );
  active?.postMessage([...new Set(addresses)]);
}
