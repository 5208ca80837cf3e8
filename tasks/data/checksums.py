"""Published files: size, sha256 and name. Which set they belong to is in sets.py."""

FASHION = """
26421880 3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84 train-images-idx3-ubyte.gz
29515    a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845 train-labels-idx1-ubyte.gz
4422102  346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073 t10k-images-idx3-ubyte.gz
5148     67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5 t10k-labels-idx1-ubyte.gz
"""
MNIST = """
9912422  440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609 train-images-idx3-ubyte.gz
28881    3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c train-labels-idx1-ubyte.gz
1648877  8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6 t10k-images-idx3-ubyte.gz
4542     f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6 t10k-labels-idx1-ubyte.gz
"""
EWT = """
14203025 3fb78e2b55482c8ee00caa653af436c88c9e5bc9a73ce26e4ae3ddc79d2b7e7b en_ewt-ud-train.conllu
1805545  531a54ff90d6ab12201c5a50c3e78e6ddac4de69abc4bce5d275d3cd29efe2b6 en_ewt-ud-dev.conllu
1804515  e266e515a0a7547657ed3d90d9ba46487d6bd251f27ad4269d4e8a427c8555cd en_ewt-ud-test.conllu
"""
JSB = """
407200   2db9329f1881a1d3f49703ec556bf1d6f84b4f6c1d702c156536e93cf31e1c91 jsb-chorales-quarter.json
1741172  8730aca7b64e7d29493733d1cf19fad4a5b351d8f1845e57dac27728104fd39f jsb-chorales-16th.json
"""
ETT = "2589657 f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066 ETTh1.csv"
CMUDICT = "3618488 81917843c7f44ce2b094ac63873c2c7a4cf802040792c455ba3ca406891c3d22 cmudict.dict"
SHAKESPEARE = "1115394 86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed input.txt"
WNUT = {
    "train": "491387 707d8fbadf7ab186e7998fdcbea41470d25d0a453049f531d0c8d0c810a8d8cb"
    " wnut17train.conll",
    "dev": "114744 5cd520c3321adb4d08f3f2c9eb126f4eb53c6785845a9e5f367f416100301184"
    " emerging.dev.conll",
    "test": "192416 59242c5624a463782626d55a82c2c735fb687a011c44335acbb102e6d8e9d359"
    " emerging.test.annotated",
}
"""WNUT-17, by the folder of the file."""
