"""All peers, in the order of the tables."""

from ray_itl.benchmark.peers.active_ft import ACTIVEFT
from ray_itl.benchmark.peers.apricot_select import APRICOT
from ray_itl.benchmark.peers.faiss_nearest import FAISS
from ray_itl.benchmark.peers.ours import OURS
from ray_itl.benchmark.peers.peer import Peer
from ray_itl.benchmark.peers.plain import PLAIN
from ray_itl.benchmark.peers.submod_lib import SUBMODLIB

PEERS: dict[str, Peer] = {peer.name: peer for peer in (*OURS, *PLAIN, *ACTIVEFT, *SUBMODLIB, *APRICOT, *FAISS)}
