// Tells the service worker what to keep for the time without a network.

import type { Runtime } from "./runtime";

// What the page has loaded; the browser's own list of it ends at 250.
const byPage = new Set<string>();
new PerformanceObserver((list) => list.getEntries().forEach(({ name }) => byPage.add(name))).observe({ type: "resource", buffered: true });

/** To be called once all is loaded; `kept` then is, once all of it is kept. Some browsers have no service workers in private windows. */
export async function keepForOffline(runtimes: Runtime[], kept: () => void): Promise<void> {
  if (!("serviceWorker" in navigator)) return;
  await navigator.serviceWorker.register("/sw.js");
  const { active } = await navigator.serviceWorker.ready;
  const byWorkers = await Promise.all(runtimes.map((runtime) => runtime.fetched()));
  const addresses = [location.origin + location.pathname, ...byPage, ...byWorkers.flat()].filter(
    (address) => address.startsWith(location.origin) && !/\/api\/(status|serving|edge|labels)|\/sw\.js$/.test(address),
  );
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = kept;
  active?.postMessage([...new Set(addresses)], [port2]);
}
