"""MovieLens in small: files written byte for byte in the published layouts."""

import zipfile

from hypothesis import HealthCheck, settings

FUZZ = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

LAYOUTS = {
    "100k": {
        "u.data": b"196\t242\t3\t881250949\n186\t302\t3\t891717742\n196\t1\t5\t881251949\n",
        "u.item": (
            "1|Toy Story (1995)|01-Jan-1995||http://us.imdb.com/M/title-exact?Toy%20Story%20(1995)|"
            "0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
            "242|Misérables, Les (1995)|24-Jan-1997|||0|0|0|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0\n"
            "302|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
        ).encode("latin-1"),
        "u.user": b"186|39|F|executive|00000\n196|49|M|writer|55105\n",
    },
    "1m": {
        "ratings.dat": b"1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978298413\n",
        "movies.dat": (
            "661::James and the Giant Peach (1996)::Animation|Children's|Musical\n"
            "1193::One Flew\x85 Over :: the Cuckoo's Nést (1975)::Drama\n"
        ).encode("latin-1"),
        "users.dat": b"1::F::1::10::48067\n2::M::56::16::70072-1234\n",
    },
    "10m": {
        "ratings.dat": b"1::122::5::838985046\n1::185::4.5::838983525\n2::122::0.5::868245644\n",
        "movies.dat": (
            "122::Boomerang (1992)::Comedy|Romance\n185::Léon: The Professional (1994)::(no genres listed)\n"
        ).encode(),
    },
    "25m": {
        "ratings.csv": (
            b"userId,movieId,rating,timestamp\r\n1,296,5.0,1147880044\r\n1,306,3.5,1147868817\r\n"
            b"2,296,0.5,1141415820\r\n"
        ),
        "movies.csv": (
            'movieId,title,genres\r\n296,"Pulp ""Fiction"", The (1994)",Comedy|Crime\r\n'
            "306,Trois couleurs: Été (1994) ,(no genres listed)\r\n307,,(no genres listed)\r\n"
        ).encode(),
    },
}
ZIP_FOLDER = {"100k": "ml-100k", "1m": "ml-1m", "10m": "ml-10M100K", "25m": "ml-25m"}
RATINGS_FILE = {"100k": "u.data", "1m": "ratings.dat", "10m": "ratings.dat", "25m": "ratings.csv"}
EXPECTED = {
    "100k": [(196, 242, 3, 881250949), (186, 302, 3, 891717742), (196, 1, 5, 881251949)],
    "1m": [(1, 1193, 5, 978300760), (1, 661, 3, 978302109), (2, 1193, 4, 978298413)],
    "10m": [(1, 122, 5, 838985046), (1, 185, 4.5, 838983525), (2, 122, 0.5, 868245644)],
    "25m": [(1, 296, 5, 1147880044), (1, 306, 3.5, 1147868817), (2, 296, 0.5, 1141415820)],
}
CSV = b"userId,movieId,rating,timestamp\n"


def write_folder(folder, name, **changed):
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in {**LAYOUTS[name], **changed}.items():
        if content is not None:
            (folder / file).write_bytes(content)
    return folder


def write_zip(path, name, **changed):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{ZIP_FOLDER[name]}/", "")
        archive.writestr(f"__MACOSX/{ZIP_FOLDER[name]}/{RATINGS_FILE[name]}", "not data")
        for file, content in {**LAYOUTS[name], **changed}.items():
            if content is not None:
                archive.writestr(f"{ZIP_FOLDER[name]}/{file}", content)
    return path


def rows(ratings):
    return [tuple(row) for row in ratings.to_frame().itertuples(index=False)]
