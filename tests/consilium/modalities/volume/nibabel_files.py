"""Small files that nibabel 5.4.2 wrote, gzip in base 85, and what it reads in them: an independent reader's word.

All hold the same integers [4, 5, 6] from ``default_rng(0).integers(-1000, 1000)`` and lie obliquely.
"""

SFORM = (
    "ABzY8000000t3a4ODKe46o$_^pUaRk7DGg#T*3xLv+(~eQ?^oWQBo)+iZWzjVz#0z+{<DXqY!dy+(uT$Vw7C6uy9+-YD%5|`}~6q"
    "D?9J$yic9;b~-Hxf0BR*h=eG>@A|0-uzu2YY+5;hUpHaWrT^^ps;~W$-z34mi@<v@tOwV9WjCc`hXCmn=5HqeZxyGWcm4KaT1#%6"
    ")xvYzkw-gw+B$B%Y}3P;{OkFntcReMI$Ba5&i}sLlVAABL)s=UdF2}K@gfXyG-Psznv_mRks8!vfoh{&w21_C8iN=o?A$AT=;tf2"
    "8jmVubcz>vlzTEjC*lBVC=miYgE?}*xKo=Ht5!uWZ(}u8N-H(t6m&zpvcMb`%WKL|_eLLes3Mr90M=owcq1nzsR?ix&D@Xs^4S=X"
    "4t}K-%tK8@DZ8>@F)Z^A*Wre;$qPy#w}_!c>f&0+HbP(*HSCreH9$7Di*Zil2Qe=f)HxPlj&kt_rTvQLPyzq|"
)
QFORM = (
    "ABzY8000000t3a5ODIHP6vxjw-*~3XEQW|ed1P!*Gz<57Oxa3}N0bywiJ}Zyn6MRP;awIMqY(1SV~~}xpyZK-h1XKEQtI6AGk4gq"
    "vhzEg^Q+UpQ>PK(PYAF;1VjRU*H0{94cmJZ8l?codPpIA^`E^~@#QcC|BU&C?_fZ`SlcVPEgn7uNGk(aH~|Qjoi2XpcbAh|Qr)y>"
    "?(P0X?d*B;sOhR%H#3f#S%2o^g_bf@RBGmb-|lqehkZy}<RhP4<z1eKevX0+ZdK#b1Ibc@8q8D8w1akGLyysial*-6au1LB8mz{X"
    "dN<m{D?G_v8K4t!09BL#0iMEa*=yXZ4T@DOB8RuIlFFr(>Tv=(AYMho3>L~8N>>j?H?^t)n5F=_F;)c0Ly2k(Tt)-;;J$n@2BnMN"
    "Xc==+Q<2K4qOlN`c$?k0uI%!XY&0TbD1q9!8nTRcaEdA(ks8%P7Pg2{PUS~2E9cZX=3%z-@+Sh3M2%1a000"
)
NIFTI2 = (
    "ABzY8000000t3~MPe@cz7{$MyI*3sg6-|?ZNF-z?$Yhbyz4P9ST3Cds5Ck=g2E?e`jKi$nqM(%oq5UCRgp0@_q)i5c^O|{ri-Jfg"
    "`$uhzAgLfSkYM_~=FOr-f3{utIN!bJ+;h)&>kN_8&26%(CQ`FT8l*x>t1`f<07C(;_zV7dea;1qF8*BKRB2nS177_O8;oCkl>7(F"
    "kKA!SvwCFclgjUCU)a=lPfbRQXUmC+;2*XGb4T40?$uKlKP0Y1iz*jOE=87~sQCP?a7FX1D(kZ?UE}%7b87dI4NX_CFXcwF8($6V"
    "SyW}8=&n@vbb2;7oxYZ_zdu(i8;ir%<B%@<mvjB|(yg}W7F%Q+l_`kR<B4=r^_IAC@U0eS2;5u{nWR3NB45B1IBtpb6hwz@ab8-Y"
    "_kkC{M)X-Y%NBRg6K4kfYxajZ?*%)-_YcG|;EwWc!V+f~%^2^uk>@ODo#@ts6ESfPqJM~H5#IL>=f&9$m*njMAMtrX-nH~^@Tnw6"
    "hWqQNd2$YNCNYsmc)Y`7C%WTcHTUZ5(rgDz(Oc;k(A=g>KLh#e!G8E!yjnfc{oJ_^f3qNNh~9-e19qT$ie`i|IZIRfsdMbROmTbB"
    "@UOnN+#vr~xG1xdRpOvQ<|^Jh$$Vp`IPGAPzdQtgihhc`we)wG=Mo<Ln|sU?H-%@4yLa)M!I%6p>htVRcs~Gm?6x@o1ONa"
)
BIG = (
    "ABzY8000000t3a7K}b|#6orp36?YmbC@F|gi>8pGY>~cszW1aS79lf`AlNJl#L(R6pqrm+(W*^kgdifbkdhE_VPP{*=Pe8pgTTay"
    "LR4Ht1meP7-%~fXa@Rjx&VBcubN+k(kqSC=oO42jDpIiu4u3~anQEn+ksLna0Z0-zN5h*sz{6wd{~s$pG&j-oerox{<Evkr*<pT6"
    "YW~BVdzrlb^7E?w>P}Tuw=>y_+|0(uc<M`M#L14V#O&quGfu;!>WKgE>4{z3N59^Ye}OnB<tL>uVHCFU7B%FlK+aEaz$ky3{;cHw"
    "26w<ToHyhNJSrV|-;Deg@G1H_aE`i%wl7eA(a8Hwej7~^Y-EpZ&_dHr?>;`yxFdt+619iu;rQk3%6}5xg!2i`ugKeIp_1Nt`2AqF"
    "qY(7g(4FM2AJhu@o<wtsIaks3;lr-p68RRqD`-3MEg`Qy*v-9x?kx9i!h22KC88N>@a&>i3csG{g7Xf|II|Sf3&37@*SK#5-V5$<"
    "i9zBz-%s#vMVAbCSF`WEFiLM1|I5*=ynPC^z#_cv1#)?ZumNtg-!1lg06$A!YUIAf^Er7toDMwGf&4V{Oyj#qZxh`x{HT9d`U_YO"
    "Owm9C000"
)
