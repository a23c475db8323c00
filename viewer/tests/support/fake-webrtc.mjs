// As much of WebRTC as it takes to make offers and answers. Nothing ever connects; what is told is what came in.
let made = 0;

class DataChannel {
  readyState = "connecting";
  bufferedAmount = 0;
  close() {}
}

/** `tell(description)` hears every remote description; `name` is part of what this side writes. */
export function fakePeerConnection(name, tell) {
  return class {
    #number = ++made;
    signalingState = "stable";
    iceGatheringState = "complete";
    iceConnectionState = "new";
    connectionState = "new";
    localDescription = null;
    remoteDescription = null;

    createDataChannel() {
      return new DataChannel();
    }

    async createOffer() {
      return { type: "offer", sdp: `offer ${this.#number} of ${name}` };
    }

    async createAnswer() {
      return { type: "answer", sdp: `answer of ${name} to ${this.remoteDescription.sdp}` };
    }

    async setLocalDescription(description) {
      this.localDescription = description;
      setTimeout(() => this.onicecandidate?.({ candidate: null }));
    }

    async setRemoteDescription(description) {
      this.remoteDescription = description;
      tell(description);
    }

    close() {}
  };
}

export class SessionDescription {
  constructor({ type, sdp }) {
    Object.assign(this, { type, sdp });
  }
}
