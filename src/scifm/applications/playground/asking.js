// Requests to the server: what it refuses becomes an error with its sentence.

export const BINARY = "application/octet-stream";

async function checked(response) {
  if (response.ok) return response;
  const type = response.headers.get("content-type") || "";
  if (!type.startsWith("application/json")) throw new Error(`The server answered ${response.status} ${response.statusText}.`);
  throw new Error((await response.json()).error);
}

export const get = async (address) => checked(await fetch(address));

export const post = async (address, body) =>
  checked(await fetch(address, { method: "POST", headers: { "content-type": BINARY }, body }));

// An answer on the wire: a length, so many bytes of JSON, and numbers behind them.
export async function unpacked(response) {
  const content = await response.arrayBuffer();
  const length = new DataView(content).getUint32(0, true);
  const told = JSON.parse(new TextDecoder().decode(new Uint8Array(content, 4, length)));
  return [told, new Float32Array(content, 4 + length)];
}

// `fetch` throws a TypeError when nobody is there.
export const sentence = (error) =>
  error instanceof TypeError ? "The server does not answer: is 'scifm play' still running?" : error.message;
